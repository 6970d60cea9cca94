"""The limits of a prompt's length in a model's config.json, read without a download if possible."""

import json
from pathlib import Path
from typing import Any, NamedTuple

LONGEST = 8192
"""The tokens of a prompt and its answer for a recipe without a number, if the model takes more."""
_LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_sequence_length", "max_seq_length", "seq_len", "max_target_positions"),
)
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
"""The keys under which models of text and images keep the settings of their text half."""


class ModelLimits(NamedTuple):
    """The limits of a model; None for those that the file lacks."""

    length: int | None
    """The tokens that the model was made for."""
    longest: int | None
    """The most tokens that it takes with stretched positions."""
    per_image: int | None
    """The tokens of one image."""


UNKNOWN = ModelLimits(None, None, None)


def limits_of(model: str, revision: str | None = None, fetch: bool = False) -> ModelLimits:
    """Return the limits of a folder, or of an id on Hugging Face if its config.json is on this machine.

    With `fetch` it may be downloaded. The limits of an unreadable file are unknown.
    """
    try:
        path = _config_file(model, revision, fetch)
        return read_limits(json.loads(path.read_text("utf-8"))) if path else UNKNOWN
    except (OSError, ValueError, RecursionError):
        return UNKNOWN


def read_limits(config: object) -> ModelLimits:
    """Return the limits in a config.json."""
    if not isinstance(config, dict):
        return UNKNOWN
    text = next((part for key in _TEXT_PARTS if isinstance(part := config.get(key), dict)), config)
    lengths = [value for key in _LENGTHS if (value := _positive(text.get(key))) is not None]
    length = min(lengths, default=None)
    stretch = 1.0 if "gemma3" in str(config.get("model_type")) else _stretch(text)
    longest = None if length is None else max(int(length * stretch), _positive(text.get("model_max_length")) or 0)
    return ModelLimits(length, longest, _positive(config.get("mm_tokens_per_image")))


def _config_file(model: str, revision: str | None, fetch: bool) -> Path | None:
    if Path(model).is_dir():
        return Path(model) / "config.json"
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if fetch:
        return Path(hf_hub_download(model, "config.json", revision=revision))
    found = try_to_load_from_cache(model, "config.json", revision=revision)
    return Path(found) if isinstance(found, str) else None


def _stretch(text: dict[str, Any]) -> float:
    """Return the largest factor by which rotary positions are scaled; 1 without scaling."""
    places = [text.get(key) for key in ("rope_scaling", "rope_parameters")]
    parts = [part for place in places if isinstance(place, dict) for part in (place, *place.values())]
    factors = [part.get("factor") for part in parts if isinstance(part, dict)]
    return max([float(f) for f in factors if isinstance(f, int | float) and 1 < f < 1e6], default=1.0)


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40 else None
