import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from medsae_ray.core.analysis.probes import ProbeRows
from medsae_ray.core.artifacts.recovery import rows as recovery
from medsae_ray.core.probing import probed
from medsae_ray.core.probing.curves import Rules
from medsae_ray.core.probing.shares import headed_by
from medsae_ray.core.probing.spaces import TEST, Table
from medsae_ray.core.probing.targets import Target

N, RULES = 500, Rules((1, 3))


@pytest.fixture(scope="module")
def table() -> Table:
    rng = np.random.default_rng(0)
    sae_nF = rng.gamma(1, 1, (N, 12)) * (rng.random((N, 12)) < 0.4)
    rows = ProbeRows(np.arange(N), sae_nF @ rng.normal(size=(12, 6)), sparse.csr_array(sae_nF))
    return Table.of(rows, rng.choice(3, N, p=[0.5, 0.2, 0.3]), RULES.most)


def targets(table: Table) -> list[Target]:
    """Two targets that a feature each carries, one of a class alone, and one with too few test patients."""
    sae = np.zeros((N, 12))
    for rows, of in zip(table.rows, (table.fit, table.judge, table.test), strict=True):
        sae[rows] = of["sae"].toarray()
    a, b = ((sae[:, feature] > 0.5).astype(float) for feature in (2, 5))
    rare = a.copy()
    rare[table.rows[TEST]] = 0
    return [
        Target("a", "labels", a),
        Target("b", "labels", b),
        Target("one", "one", np.ones(N)),
        Target("rare", "labels", rare),
    ]


def rows_of(table: Table, chosen: list[Target]) -> list[probed.Row]:
    found = probed.rank(table, chosen, RULES)
    orders = probed.group_orders(chosen, found, RULES.most)
    return probed.probe_rows(table, chosen, found, orders, RULES, 0.95)


def test_the_order_of_targets_changes_no_row_and_no_figure(table: Table) -> None:
    chosen = targets(table)
    rows, backwards = rows_of(table, chosen), rows_of(table, chosen[::-1])
    key = [(row["target"], row["kind"] or "", row.get("n") or 0) for row in rows]
    assert len(set(key)) == len(key)
    for row in rows:
        assert row in backwards
    assert probed.curve_points(rows, 0.95, 0) == probed.curve_points(backwards, 0.95, 0)
    assert pa.Table.from_pylist(rows, schema=recovery()).num_rows == len(rows)


def test_a_group_has_one_order_and_a_target_its_own(table: Table) -> None:
    rows = rows_of(table, targets(table)[:2])
    own, group = (
        {row["target"]: row["columns"] for row in rows if row["kind"] == kind and row["n"] == 3}
        for kind in ("features", "group")
    )
    assert own["a"][0] == 2 and own["b"][0] == 5
    assert group["a"] == group["b"] and set(group["a"][:2]) == {2, 5}


def test_what_cannot_be_fitted_or_tested_has_no_number(table: Table) -> None:
    lost = {row["target"]: row for row in rows_of(table, targets(table)) if row["kind"] is None}
    assert lost["one"]["untested"] == "0 training patients without it, 10 are needed"
    assert lost["rare"]["untested"] == "0 test patients with it, 10 are needed"
    assert set(lost) == {"one", "rare"} and "auroc" not in lost["rare"]


def test_features_that_are_never_active_have_a_reason(table: Table) -> None:
    dead = table._replace(**{name: dict(getattr(table, name)) for name in ("fit", "judge", "test")})
    for spaces in (dead.fit, dead.judge, dead.test):
        spaces["sae"] = spaces["sae"] * 0  # type: ignore[index]
    rows = rows_of(dead, targets(table)[:1])
    assert [row["untested"] for row in rows if row["kind"] == "features"] == [
        "no feature that varies over the training patients"
    ]
    assert {row["kind"] for row in rows} == {"features", "dimensions", "components"}
    points = probed.curve_points(rows, 0.95, 0)
    assert {point["kind"] for point in points} == {"dimensions", "components"} and headed_by(points) is None


def test_points_are_those_that_all_targets_that_count_have() -> None:
    def row(target: str, kind: str, n: int | None, auroc: float) -> probed.Row:
        return {"target": target, "kind": kind, "n": n, "auroc": auroc, "untested": None}

    rows = [row(name, "dimensions", None, area) for name, area in (("a", 0.9), ("b", 0.7), ("low", 0.55))]
    rows += [row("a", "features", 10, 0.8), row("b", "features", 10, 0.6), row("low", "features", 10, 0.5)]
    rows += [row("a", "features", 39, 0.9), row("b", "features", 38, 0.9)]
    points = {(point["kind"], point["n"]): point for point in probed.curve_points(rows, 0.95, 0)}
    assert set(points) == {("features", 10), ("dimensions", None)}
    assert points["features", 10]["above_chance"] == pytest.approx(0.2 / 0.3)
    assert points["features", 10]["ratio"] == pytest.approx(0.7 / 0.8)
