from typing import Any

import numpy as np
import pytest
from scipy import sparse

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.probes import ProbeRows
from medsae_ray.core.probing.curves import Fitted, Rules, Task, fitted, measured, rankings
from medsae_ray.core.probing.ranking import by_group, by_path
from medsae_ray.core.probing.spaces import FIT, JUDGE, TEST, Table

N, D, F = 900, 12, 40
RULES = Rules((1, 2, 3, 5, 10, 20, 100))


def made(seed: int = 0) -> tuple[ProbeRows, np.ndarray, np.ndarray]:
    """Rows of which features 3, 7 and 9 carry a label, dimensions that mix the features, and the roles."""
    rng = np.random.default_rng(seed)
    sae_nF = rng.gamma(1, 1, (N, F)) * (rng.random((N, F)) < 0.3)
    sae_nF[:, -1] = 0
    logit = sae_nF[:, [3, 7, 9]] @ [3.0, 3.0, -3.0]
    y_n = (logit + rng.normal(0, 0.3, N) > np.quantile(logit, 0.6)).astype(float)
    raw_nD = sae_nF[:, :30] @ rng.normal(size=(30, D)) + rng.normal(size=(N, D))
    role_n = rng.choice(3, N, p=[0.5, 0.2, 0.3])
    return ProbeRows(np.arange(N), raw_nD.astype(np.float32), sparse.csr_array(sae_nF.astype(np.float32))), y_n, role_n


def probed(
    rows: ProbeRows, y_n: np.ndarray, role_n: np.ndarray, rules: Rules = RULES
) -> tuple[list[Fitted], list[Auroc]]:
    table = Table.of(rows, role_n, rules.most)
    y_fit, y_judge, y_test = (y_n[at] for at in table.rows)
    task = Task.of("target", table.fit, y_fit, table.judge, y_judge)
    found = rankings(task, rules)
    features = found["sae"]
    group_P = by_group(features.weight_K[None], features.varies_K, rules.most) if features else np.arange(0)
    probes = fitted(task, found, group_P, rules)
    return probes, measured(probes, table.test, y_test, 0.95)


def by_kind(probes: list[Fitted], areas: list[Auroc]) -> dict[tuple[str, int | None], Auroc]:
    sizes = [None if one.columns_P is None else len(one.columns_P) for one in probes]
    return {(one.kind, n): area for one, n, area in zip(probes, sizes, areas, strict=True)}


@pytest.mark.parametrize("seed", range(3))
def test_a_target_that_three_features_carry_is_recovered_with_three(seed: int) -> None:
    probes, areas = probed(*made(seed))
    found = by_kind(probes, areas)
    assert set(
        next(p for p in probes if p.kind == "features" and p.columns_P is not None and len(p.columns_P) == 3).columns_P
    ) == {3, 7, 9}
    assert found["features", 3].auc > 0.98 * max(found["features", None].auc, found["dimensions", None].auc)
    assert found["features", 3].auc > found["features", 1].auc + 0.05
    assert found["group", 3].auc == pytest.approx(found["features", 3].auc, abs=0.01), "a group of one has one order"
    assert found["random", 3].auc < 0.8 and found["shuffled", 3].auc < 0.8
    assert found["dimensions", 3].auc < found["features", 3].auc > found["components", 3].auc


def test_sizes_beyond_the_columns_are_not_repeated() -> None:
    found = by_kind(*probed(*made()))
    assert [n for kind, n in found if kind == "dimensions"] == [None, 1, 2, 3, 5, 10, 12]
    assert [n for kind, n in found if kind == "features"] == [None, 1, 2, 3, 5, 10, 20, 39], "the last is never active"
    assert [n for kind, n in found if kind == "components"] == [1, 2, 3, 5, 10, 12]


def test_no_test_patient_is_read_before_the_last_step() -> None:
    rows, y_n, role_n = made()
    test = role_n == TEST
    poison_nF = rows.sae_nF.toarray()
    poison_nF[test] = 1e6
    raw_nD = np.where(test[:, None], np.float32(np.nan), rows.raw_nD)
    poisoned = ProbeRows(rows.row_n, raw_nD, sparse.csr_array(poison_nF))
    table, other = Table.of(rows, role_n, 100), Table.of(poisoned, role_n, 100)
    y_poisoned = np.where(test, 1 - y_n, y_n)
    for one, two in zip(_fits(table, y_n), _fits(other, y_poisoned), strict=True):
        assert (one.kind, one.strength, one.patients) == (two.kind, two.strength, two.patients)
        np.testing.assert_array_equal(
            one.columns_P if one.columns_P is not None else -1, two.columns_P if two.columns_P is not None else -1
        )
        np.testing.assert_array_equal(one.linear.coefficient_K, two.linear.coefficient_K)
        assert one.linear.intercept == two.linear.intercept
    assert not np.array_equal(table.test["raw"], other.test["raw"]), "the poison is where a test would read it"


def _fits(table: Table, y_n: np.ndarray) -> list[Fitted]:
    task = Task.of("target", table.fit, y_n[table.rows[FIT]], table.judge, y_n[table.rows[JUDGE]])
    found = rankings(task, RULES)
    return fitted(task, found, np.arange(20), RULES)


def test_an_interval_of_noise_holds_one_half() -> None:
    rows, _, role_n = made()
    rng, held = np.random.default_rng(1), {"features": 0, "dimensions": 0}
    rules = Rules((10,), strengths=(0.1,))
    for _ in range(100):
        y_n = (rng.random(N) < 0.3).astype(float)
        table = Table.of(rows, role_n, 10)
        task = Task.of("noise", table.fit, y_n[table.rows[FIT]], table.judge, y_n[table.rows[JUDGE]])
        found = {space: None for space in ("sae", "raw", "shuffled")} | {
            key: value for key, value in rankings(task, rules).items() if key != "shuffled"
        }
        probes = [one for one in fitted(task, found, np.arange(0), rules) if one.columns_P is None]
        for one, area in zip(probes, measured(probes, table.test, y_n[table.rows[TEST]], 0.95), strict=True):
            held[one.kind] += area.low <= 0.5 <= area.high
    assert min(held.values()) >= 90, held


@pytest.mark.parametrize("dead", ["sae", "raw"])
def test_a_space_without_a_column_that_varies_has_no_probe(dead: str) -> None:
    rows, y_n, role_n = made()
    gone = rows._replace(
        **{f"{dead}_n{'F' if dead == 'sae' else 'D'}": (rows.sae_nF * 0 if dead == "sae" else rows.raw_nD * 0)}
    )
    kinds = {one.kind for one in probed(gone, y_n, role_n)[0]}
    assert kinds == ({"dimensions", "components"} if dead == "sae" else {"features", "group", "random", "shuffled"})


def test_unknown_labels_are_left_out_and_too_few_of_a_class_are_a_reason() -> None:
    rows, y_n, role_n = made()
    some = np.where(np.arange(N) % 3 == 0, np.nan, y_n)
    probes, areas = probed(rows, some, role_n)
    known = ~np.isnan(some)
    assert probes[0].patients == (known & (role_n == FIT)).sum()
    assert areas[0].positives + areas[0].negatives == (known & (role_n == TEST)).sum()
    table = Table.of(rows, role_n, 5)

    def lacks(y: np.ndarray) -> Any:
        return Task.of("t", table.fit, y[table.rows[FIT]], table.judge, y[table.rows[JUDGE]]).lacks()

    assert lacks(y_n) is None
    assert lacks(np.ones(N)) == "0 training patients without it, 10 are needed"
    assert lacks(np.full(N, np.nan)) == "0 training patients with it, 10 are needed"
    few = np.where(np.cumsum((role_n == FIT) & (y_n == 1)) <= 9, y_n, 0)
    assert lacks(few) == "9 training patients with it, 10 are needed"


def test_without_judges_the_last_strength_counts() -> None:
    rows, y_n, role_n = made()
    probes, _ = probed(rows, np.where(role_n == JUDGE, np.nan, y_n), role_n, Rules((1, 3)))
    assert {one.strength for one in probes} == {1.0}


def test_columns_that_the_penalty_left_out_follow_by_weaker_penalties() -> None:
    weight_SK = np.array([[0, 2.0, 0, 0, 0], [0, 1.0, 0, -3.0, 0], [0.5, 1.0, 0, 1.0, 9.0]])
    varies_K = np.array([True, True, True, True, False])
    assert by_path(weight_SK, 0, varies_K, 9).tolist() == [1, 3, 0, 2]
    assert by_path(weight_SK, 1, varies_K, 2).tolist() == [3, 1]
    assert by_group(weight_SK, varies_K, 9).tolist() == [1, 3, 0, 2]
