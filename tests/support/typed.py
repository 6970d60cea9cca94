"""Whether plain values are of a type: TypedDict, list, dict, Literal and unions of them."""

import types
from pathlib import Path
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from medsae_ray.core.artifacts import likeness, metrics, monosemanticity, name_metrics, rankings, recovery, retrieval
from medsae_ray.core.artifacts.store import Store
from medsae_ray.preflight.estimates import records_of

FILES = (metrics, name_metrics, monosemanticity, rankings, recovery, retrieval, likeness)
TYPES = {name: kind for file in FILES for name, kind in vars(file).items()}


def records_fit(root: Path) -> set[str]:
    """AssertionError if figures in a record below a root are not of their stage's type; returns the stages."""
    found = set()
    for record in records_of(Store(str(root))).values():
        kinds = ("answers", "embeddings")
        words = next(([kind] for kind in kinds if record.stage.endswith(kind)), record.stage.split("_"))
        if record.metrics:
            fits(record.metrics, TYPES[f"{''.join(map(str.title, words))}Metrics"], record.name)
        found.add(record.stage)
    return found


def fits(value: Any, kind: Any, where: str = "") -> None:
    """AssertionError that names the first place where a value is not of its type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is NotRequired:
        fits(value, inner[0], where)
    elif origin in (Union, types.UnionType):
        _one_fits(value, kind, where)
    elif is_typeddict(kind):
        _keys_fit(value, kind, where)
    elif origin is dict:
        for key, one in value.items():
            fits(one, inner[1], f"{where}.{key}")
    elif origin is list:
        for place, one in enumerate(value):
            fits(one, inner[0], f"{where}[{place}]")
    elif origin is Literal:
        assert value in inner, f"{where}: {value!r} is none of {inner}"
    elif kind is not Any and kind is not type(None):
        assert isinstance(value, (float, int) if kind is float else kind), f"{where}: {value!r} is no {kind}"


def _one_fits(value: Any, kind: Any, where: str) -> None:
    known = [one for one in get_args(kind) if (value is None) == (one is type(None))]
    assert known, f"{where}: {value!r} is no {kind}"
    if len(known) == 1:
        fits(value, known[0], where)
    else:
        assert isinstance(value, tuple(known)), f"{where}: {value!r} is no {kind}"


def _keys_fit(value: Any, kind: Any, where: str) -> None:
    hints = get_type_hints(kind)
    assert set(value) <= set(hints), f"{where}: {sorted(set(value) - set(hints))} are not in {kind.__name__}"
    assert kind.__required_keys__ <= set(value), f"{where}: {sorted(kind.__required_keys__ - set(value))} not there"
    for key in value:
        fits(value[key], hints[key], f"{where}.{key}")
