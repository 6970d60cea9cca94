"""A vision model from a folder, through transformers' AutoModel, refused if weights and architecture do not fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.utils import logging

from medsae_ray.core.encoders.checkpoint import refuse_misfit
from medsae_ray.errors import EncoderError


def vision_model(folder: Path, *, pooler: bool) -> nn.Module:
    """Load the float32 vision model in `folder` (the vision half of a model with a text half), without running its
    code.

    EncoderError names missing and unexpected weights. The weights of an unused head are not unexpected, and if `pooler`
    is False the weights of a pooler may be missing.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with _quiet():
            model, report = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
            )
    except Exception as error:  # OSError, ValueError, safetensors' and pickle's own, ...
        raise EncoderError(
            f"weights {folder}: transformers cannot load it ({type(error).__name__}: {error})"
        ) from error
    _check(folder, model, report, pooler)
    vision: nn.Module = getattr(model, "vision_model", model)
    if getattr(vision, "main_input_name", None) != "pixel_values":
        raise EncoderError(f"weights {folder}: a {config.model_type} model, which does not read images")
    if getattr(config, "mask_ratio", 0):
        raise EncoderError(
            f"weights {folder}: a {config.model_type} model hides a random share of each image; set mask_ratio to 0 in "
            "its config.json"
        )
    return vision


def _check(folder: Path, model: Any, report: dict[str, Any], pooler: bool) -> None:
    missing = [key for key in sorted(report["missing_keys"]) if pooler or not key.startswith("pooler.")]
    shapes = [f"{key} is {list(a)} instead of {list(b)}" for key, a, b in sorted(report["mismatched_keys"])]
    try:
        refuse_misfit(folder, missing, _unexpected(model, report), shapes)
    except EncoderError as error:
        hint = (
            ". Without pooler weights use pool cls or mean" if any(key.startswith("pooler.") for key in missing) else ""
        )
        raise EncoderError(f"{error}{hint}") from error


def _unexpected(model: Any, report: dict[str, Any]) -> list[str]:
    """Return the unexpected weights below a module that the model has; weights outside its modules belong to a head."""
    prefix = f"{model.base_model_prefix}."
    own = {name for name, _ in model.named_children()}
    keys = sorted(report["unexpected_keys"])
    return [key for key in keys if own & {key.split(".")[0], key.removeprefix(prefix).split(".")[0]}]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bar and its table of misfits, which become errors here."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
