"""Commands for SAEs from and for other libraries: export and import."""

import argparse

from medsae_ray.commands.arguments import Commands
from medsae_ray.core.artifacts.artifact import open_artifact
from medsae_ray.core.artifacts.store import Store

FORMATS = ("saelens", "dictionary_learning", "sparsify", "sail")
"""A copy of the names in core/sae/formats, whose import takes torch."""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    out = commands.add_parser("export", help="a trained SAE as the checkpoint of another library")
    out.add_argument("sae", metavar="SAE_URI", help="a finished sae artifact")
    _format(out)
    out.add_argument("folder", metavar="FOLDER", help="where the files go: a path, s3://..., gs://...")
    out.add_argument("--overwrite", action="store_true", help="replace files of the same name in FOLDER")
    out.set_defaults(do=export)
    into = commands.add_parser("import", help="another library's checkpoint as an sae artifact")
    _format(into)
    into.add_argument("folder", metavar="FOLDER", help="the checkpoint's folder")
    into.add_argument("out", metavar="OUT", help="folder for the artifact")
    into.set_defaults(do=import_)


def _format(command: argparse.ArgumentParser) -> None:
    command.add_argument("format", metavar="FORMAT", choices=FORMATS, help=" or ".join(FORMATS))


def export(chosen: argparse.Namespace) -> int:
    """Write an SAE for another library."""
    from medsae_ray.core.sae.formats.convert import export_sae

    folder = Store(chosen.folder)
    for name in export_sae(open_artifact(chosen.sae), chosen.format, folder, overwrite=chosen.overwrite):
        print(folder.address(name))
    return 0


def import_(chosen: argparse.Namespace) -> int:
    """Import another library's SAE."""
    from medsae_ray.core.sae.formats.convert import import_sae

    print(import_sae(chosen.format, Store(chosen.folder), Store(chosen.out)).store.uri)
    return 0
