"""The option `medsae --print-completion`, by which a shell completes commands, options and stages."""

import argparse
from collections.abc import Sequence
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(argparse.Action):
    """An action that prints the script of a shell and exits; only this action needs shtab."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        text = 'print a script that completes commands in this shell, as: eval "$(medsae --print-completion bash)"'
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, choices=SHELLS, help=text)

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        """Print the script for the given shell and exit; with an error if shtab is not installed."""
        _, shell, *_ = given
        try:
            import shtab
        except ImportError:
            parser.error("--print-completion needs the package shtab: pip install 'medsae-ray[completion]'")
        print(shtab.complete(parser, shell))
        parser.exit()


def add(parser: argparse.ArgumentParser) -> None:
    """Add the option to the command line."""
    parser.add_argument("--print-completion", action=PrintCompletion)
