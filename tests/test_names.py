from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from medsae_ray.names import by_name, nearest


@dataclass(frozen=True)
class Plain:
    width: int
    seed: int
    rate: float = 0.5


class Row(NamedTuple):
    width: int
    seed: int


def test_settings_are_handed_over_by_their_names_but_for_those_that_differ() -> None:
    given = SimpleNamespace(width=3, seed=1, other=9)
    assert by_name(Plain, given, seed=7) == Plain(3, 7) and by_name(Row, given) == (3, 1)


def test_a_setting_that_nobody_has_is_an_error() -> None:
    with pytest.raises(TypeError, match="seed"):
        by_name(Plain, SimpleNamespace(width=3))


def test_the_nearest_name_is_found_if_one_is_like_it() -> None:
    assert nearest("batchsize", ["seed", "batch_size"]) == "batch_size"
    assert nearest("zzz", ["seed", "batch_size"]) is None and nearest("seed", []) is None
