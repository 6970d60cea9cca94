"""The preprocessing of a Hugging Face model, from its preprocessor_config.json.

The file is read here and not by transformers' image processors: those of newer models need torchvision, and resize on
the GPU. Supported steps are resize, centre crop, rescale and normalise; a step of another kind is refused by name.
Legend: S side of the encoder's input.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsae_ray.core.encoders.torch_encoder import PixelNormalisation
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError

_RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL's numbers
_DONE = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"}
# Processors that take a lone number as the short side; the others as a square.
_SHORT = ("CLIP", "ChineseCLIP", "Bit", "ConvNext", "ConvNeXT")
_CONVNEXT_CROPS_BELOW = 384  # px: at this size and above ConvNeXt's processor stretches


def image_settings(
    folder: Path, given: Mapping[str, Any], fallback: Mapping[str, Any] | None = None
) -> tuple[Preprocess, PixelNormalisation]:
    """Return the preprocessing of the model in `folder`.

    `given` overrides the file: size, resize, fit, resample, channels, mean, std; None is not given. A given size
    without a given resize leaves no margin to crop. `fallback` replaces a missing file. Raises EncoderError if a
    setting is missing.
    """
    where = f"{folder}: preprocessor_config.json"
    stored = _stored(folder) or dict(fallback or {})
    given = {key: value for key, value in given.items() if value is not None}
    found: dict[str, Any] = {"fit": "stretch", "resample": "bilinear"}
    if stored:
        _refuse_others(stored, where)
        found = {"resample": _RESAMPLES.get(stored.get("resample", -1))} | _colours(stored, where)
        found |= {} if {"size", "fit"} <= set(given) else _geometry(stored, where)
    if "size" in given or given.get("fit") == "pad":
        found["resize"] = None
    found.setdefault("size", model_setting(folder, "image_size"))
    found |= given
    for key in ("size", "fit", "resample", "mean", "std"):
        if found.get(key) is None:
            raise EncoderError(f"{where} does not say {key!r} (or is not there); set the option {key}")
    preprocess = Preprocess(found["size"], found["channels"], found["fit"], found["resample"], found.get("resize"))
    return preprocess, PixelNormalisation(found["mean"], found["std"], found.get("divisor", 255.0))


def model_setting(folder: Path, name: str) -> Any:
    """Return a value of config.json, or of its vision half if it has one; None if absent."""
    config = _json(folder / "config.json")
    return (config.get("vision_config") or config).get(name)


def _stored(folder: Path) -> dict[str, Any]:
    if (folder / "preprocessor_config.json").is_file():
        return _json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        return dict(_json(folder / "processor_config.json").get("image_processor") or {})
    return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise EncoderError(f"{path}: not a readable JSON object ({error})") from error


def _refuse_others(stored: dict[str, Any], where: str) -> None:
    others = [key for key, value in stored.items() if key.startswith("do_") and value and key not in _DONE]
    others += [key for key in ("rescale_offset",) if stored.get(key)]
    if others:
        raise EncoderError(f"{where} asks for {', '.join(others)}, which is not carried out here")


def _geometry(stored: dict[str, Any], where: str) -> dict[str, Any]:
    """Return size, resize and fit, as far as they are stated."""
    if not stored.get("do_resize", True):
        return {}
    resize, fit = _resize(stored, where)
    if fit == "crop" and "crop_pct" in stored:
        return _convnext(resize, stored["crop_pct"] or 224 / 256)
    size = _side(stored.get("crop_size"), where) if stored.get("do_center_crop") else None
    if fit == "crop" and size is None:
        raise EncoderError(f"{where} keeps the aspect of images; set the options size and fit")
    return {"size": size or resize, "resize": resize if size not in (None, resize) else None, "fit": fit}


def _resize(stored: dict[str, Any], where: str) -> tuple[int, str]:
    """Return (side in pixels, fit) of the resize."""
    size = stored.get("size")
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"]), "crop"
    kind = str(stored.get("image_processor_type") or stored.get("feature_extractor_type") or "")
    if isinstance(size, int) and kind.startswith(_SHORT):
        return size, "crop"
    side = _side(size, where)
    if side is None:
        raise EncoderError(f"{where} does not say to what size images are brought; set the options size and fit")
    return side, "stretch"


def _side(size: Any, where: str) -> int | None:
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        if size["height"] != size["width"]:
            raise EncoderError(f"{where}: images of {size['height']} x {size['width']}; only squares are read")
        return int(size["height"])
    if size is None or isinstance(size, int):
        return size
    raise EncoderError(f"{where}: size {size} is not understood; set the options size and fit")


def _convnext(side: int, share: float) -> dict[str, Any]:
    if side >= _CONVNEXT_CROPS_BELOW:
        return {"size": side, "resize": None, "fit": "stretch"}
    return {"size": side, "resize": int(side / share), "fit": "crop"}


def _colours(stored: dict[str, Any], where: str) -> dict[str, Any]:
    """Return divisor, mean and std, as far as they are stated."""
    divisor = 1 / float(stored.get("rescale_factor") or 1 / 255) if stored.get("do_rescale", True) else 1.0
    if not stored.get("do_normalize", True):
        return {"divisor": divisor, "mean": 0.0, "std": 1.0}
    return {"divisor": divisor, "mean": stored.get("image_mean"), "std": stored.get("image_std")}
