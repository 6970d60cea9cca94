"""The rules by which settings of a sparse autoencoder go together."""

from collections.abc import Mapping
from itertools import pairwise
from math import isfinite
from typing import Any

from medsae_ray.errors import RecipeError

REVIVING = frozenset({"auxk", "auxk_coefficient", "resample"})
USED: dict[str, frozenset[str]] = {
    "relu_l1": frozenset({"l1", "start_l0"}),
    "topk": frozenset({"k", "patience"}) | REVIVING,
    "batch_topk": frozenset({"k", "patience"}) | REVIVING,
    "jumprelu": frozenset({"l0", "target_l0", "bandwidth", "start_l0"}),
    "gated": frozenset({"l1", "start_l0"}),
    "matryoshka": frozenset({"k", "patience", "levels", "selection", "ks", "compat"}) | REVIVING,
}
"""The settings that only some architectures have, by architecture."""
SOME = frozenset.union(*USED.values())

BANDWIDTH, START_L0, AUXK_COEFFICIENT = 0.05, 64.0, 1 / 32
"""The defaults of settings that only some architectures have. The configuration of an SAE of another architecture
holds them too, since each is stored whole."""

CHOSEN = frozenset({"width", "k", "epochs", "batch_size", "lr"})
"""The settings that are chosen from the training rows if a recipe does not give them."""

NEEDED = {
    "relu_l1": {"l1"},
    "topk": {"k"},
    "batch_topk": {"k"},
    "jumprelu": {"l0"},
    "gated": {"l1"},
    "matryoshka": {"levels"},
}

_RANGES: tuple[tuple[str, float, float], ...] = (
    ("d_in", 1, 1 << 31),
    ("width", 1, 1 << 31),
    ("k", 1, 1 << 31),
    ("l1", 0.0, float("inf")),
    ("l0", 0.0, float("inf")),
    ("target_l0", 1e-12, float("inf")),
    ("bandwidth", 1e-12, float("inf")),
    ("whiten", 1e-12, 1.0),
    ("start_l0", 1e-12, float("inf")),
    ("epochs", 1, 1 << 31),
    ("patience", 1, 1 << 31),
    ("batch_size", 1, 1 << 31),
    ("lr", 1e-12, float("inf")),
    ("warmup_fraction", 0.0, 1.0),
    ("decay_fraction", 0.0, 1.0),
    ("auxk_coefficient", 0.0, float("inf")),
    ("auxk", 1, 1 << 31),
    ("dead_after_epochs", 1, 1 << 31),
    ("seed", 0, (1 << 31) - 1),
)
"""The ranges (field, lowest, highest); a whole-number bound means that the field is a whole number."""
_OPTIONAL = ("k", "l1", "l0", "target_l0", "auxk", "whiten", "patience", "start_l0")


def check(values: Mapping[str, Any], choices: Mapping[str, tuple[Any, ...]], defaults: Mapping[str, Any]) -> None:
    """Raise RecipeError for settings that are out of range or do not go together."""
    for name, known in choices.items():
        _check_choice(name, values[name], known)
    _check_used(values, defaults)
    for name, low, high in _RANGES:
        if values[name] is not None or name not in _OPTIONAL:
            _check_range(name, values[name], low, high)
    check_together(values)
    if values["warmup_fraction"] + values["decay_fraction"] > 1:
        raise RecipeError(
            f"sae: warmup_fraction = {values['warmup_fraction']} and decay_fraction = {values['decay_fraction']} "
            "add to more than 1; lower one of them"
        )


def check_together(values: Mapping[str, Any], chosen: frozenset[str] = frozenset()) -> None:
    """Raise RecipeError for settings, each in its range, that no SAE can have together. Missing ones are not in use;
    those of `chosen` that are None will be chosen to fit the others."""
    if values["architecture"] == "matryoshka":
        _check_levels(values)
        _check_selection(values, chosen)
    width = values["width"]
    for name in ("k", "target_l0"):
        if width is not None and (values.get(name) or 0) > width:
            raise RecipeError(
                f"sae: {name} = {values[name]} is above width = {width}; lower {name} or widen the dictionary"
            )
    if values.get("whiten") is not None and values["normalisation"] != "centre":
        raise RecipeError(
            f"sae: whiten needs normalisation 'centre', not {values['normalisation']!r}; leave one of the two out"
        )


def _check_choice(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        options = ", ".join(str(option) for option in known if option is not None)
        raise RecipeError(f"sae: {name} {value!r} is unknown; known: {options}")


def _check_used(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    architecture = values["architecture"]
    for name in sorted(NEEDED[architecture]):
        if values[name] is None:
            raise RecipeError(f"sae: architecture {architecture!r} needs {name}")
    for name in sorted(SOME - USED[architecture]):
        if values[name] != defaults[name]:
            hint = "; its sparsity changes as it trains, and FVU with it" if name == "patience" else ""
            raise RecipeError(f"sae: {name} has no effect on architecture {architecture!r}{hint}; leave it out")


def _check_levels(values: Mapping[str, Any]) -> None:
    levels, width = values["levels"], values["width"]
    whole = all(isinstance(level, int) and not isinstance(level, bool) and level > 0 for level in levels)
    if not levels or not whole or any(low >= high for low, high in pairwise(levels)):
        raise RecipeError(f"sae: levels = {list(levels)} are not ascending whole numbers above 0")
    if levels[-1] != width:
        raise RecipeError(f"sae: the last of levels = {list(levels)} is not width = {width}; make them equal")


def _check_selection(values: Mapping[str, Any], chosen: frozenset[str]) -> None:
    levels, ks, selection = values["levels"], values["ks"], values["selection"]
    if values["compat"] == "sail" and (selection, values["normalisation"]) != ("per_level", "l2"):
        raise RecipeError("sae: compat 'sail' needs selection 'per_level' and normalisation 'l2', as SAIL has them")
    if values["compat"] == "sail" and values["init"] not in (None, "random"):
        raise RecipeError(
            f"sae: compat 'sail' starts from random directions, not init {values['init']!r}; leave it out"
        )
    wanted, other = ("k", "ks") if selection == "shared" else ("ks", "k")
    if (values[wanted] is None and wanted not in chosen) or values[other] is not None:
        raise RecipeError(f"sae: selection {selection!r} needs {wanted} and takes no {other}")
    if ks is None:
        return
    if len(ks) != len(levels):
        raise RecipeError(f"sae: {len(ks)} ks for {len(levels)} levels; give one for each")
    for k, level in zip(ks, levels, strict=True):
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= level:
            raise RecipeError(
                f"sae: k = {k!r} of the level of {level} features is not a whole number from 1 to {level}"
            )


def _check_range(name: str, value: Any, low: float, high: float) -> None:
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise RecipeError(f"sae: {name} = {value!r} is not a {'whole ' if whole else ''}number")
    if not (isfinite(value) and low <= value <= high):
        bounds = f"at least {low}" if high in (1 << 31, float("inf")) else f"between {low} and {high}"
        raise RecipeError(f"sae: {name} = {value} is out of range; give a number {bounds}")
