import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.probing.shares import recovery, serves
from medsae_ray.errors import ArtifactError


def test_recovery_is_a_ratio_of_means_over_the_targets_that_count() -> None:
    found = recovery([0.7, 0.9, 0.55, np.nan], [0.8, 1.0, 0.58, 0.9])
    assert (found.targets, found.auroc, found.dense) == (2, pytest.approx(0.8), pytest.approx(0.9))
    assert found.ratio.value == pytest.approx(0.8 / 0.9) and found.above_chance.value == pytest.approx(0.3 / 0.4)
    assert found.ratio.low <= found.ratio.value <= found.ratio.high < 1


def test_a_constant_score_recovers_much_by_ratio_and_nothing_above_chance() -> None:
    found = recovery(np.full(20, 0.5), np.linspace(0.65, 0.95, 20))
    assert found.ratio.value > 0.6 and found.above_chance == (0.0, 0.0, 0.0)


def test_without_targets_there_is_no_number_and_with_one_no_interval() -> None:
    nothing = recovery([0.7], [0.6])
    assert (
        nothing.targets == 0 and np.isnan([nothing.auroc, nothing.dense, *nothing.ratio, *nothing.above_chance]).all()
    )
    one = recovery([0.7], [0.9])
    assert one.above_chance.value == pytest.approx(0.5) and np.isnan([one.ratio.low, one.above_chance.high]).all()
    with pytest.raises(ArtifactError, match="do not match"):
        recovery([0.7, 0.8], [0.9])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.4, 1), st.floats(0.61, 1)), min_size=2, max_size=12), st.randoms())
def test_the_order_of_targets_changes_nothing(pairs: list[tuple[float, float]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert recovery(*zip(*pairs, strict=True), draws=50) == recovery(*zip(*shuffled, strict=True), draws=50)


def test_the_interval_narrows_with_targets() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = (recovery(rng.uniform(0.6, 0.9, n), rng.uniform(0.8, 1, n)).above_chance for n in (6, 200))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_feature_serves_the_targets_that_it_is_among_the_ten_strongest_of() -> None:
    def row(
        target: str, n: int | None, columns: list[int], low: float | None, kind: str = "features"
    ) -> dict[str, object]:
        return {"target": target, "kind": kind, "n": n, "columns": columns, "low": low}

    rows = [
        *(row("a", None, [], 0.9), row("a", 5, [1, 2], 0.9), row("a", 10, [1, 2, 3], 0.9), row("a", 20, [1, 9], 0.9)),
        *(row("b", 10, [3], 0.51), row("noise", 10, [1], 0.45), row("bare", 10, [1], None)),
        row("b", 10, [8], 0.9, kind="random"),
    ]
    assert serves(rows) == {1: ["a"], 2: ["a"], 3: ["a", "b"]}
