"""A run's figures in the place of published ones."""

import math
from typing import Any

import pytest

from medsae_ray.core.papers.compare import NO_RUN, PaperRow, compare
from medsae_ray.core.papers.published import PaperName, load
from tests.core.papers.evidence import evidence


def rows(name: PaperName = "sail", **changed: Any) -> dict[str, PaperRow]:
    return {row["id"]: row for row in compare(load(name), evidence(**changed))}


@pytest.mark.parametrize("name", ["medsae", "sail"])
def test_without_a_run_every_row_says_so(name: PaperName) -> None:
    found = compare(load(name), None)
    assert len(found) == len(load(name).figures)
    assert all(row["here"] is None and row["not_computed"] == NO_RUN for row in found)


@pytest.mark.parametrize("name", ["medsae", "sail"])
@pytest.mark.parametrize("arm", ["biomedparse", "dinov3", "random", None])
def test_every_row_has_a_figure_or_a_reason(name: PaperName, arm: str | None) -> None:
    for row in rows(name, arm=arm).values():
        assert (row["here"] is None) == bool(row["not_computed"]) == (row["comparable"] is None), row["id"]
        assert isinstance(row["here"], str | None) or math.isfinite(row["here"])


def test_bare_evidence_gives_reasons_and_no_error() -> None:
    empty = {"monosemanticity": [], "recovery": [], "retrieval": [], "sweep": [], "scores": []}
    mono = {"spaces": {"sae": {"score": {"units": 0, "found": {"top_10": None, "top_50": None}, "null": {}}}}}
    mono |= {"images": 10, "coherence_null": None, "coherence_null_subsets": None, "coherence_null_sd": None}
    nothing = {"sae": {"mean": None}, "raw": {"mean": None}}
    features = evidence().features | {"entropy": nothing}
    summary = {"monosemanticity": mono, "findings": {}}
    for name in ("medsae", "sail"):
        found = rows(
            name,
            **empty,
            summary=summary,
            features=features,
            counts={"images": 1, "patients": 1, "labels": 0, "heldout": 1},
        )
        assert all((row["here"] is None) == bool(row["not_computed"]) for row in found.values())
    assert found["judge.success.biomedparse"]["not_computed"] == "the recipe has no what.naming.judge"
    assert found["r2.most.biomedparse"]["not_computed"] == "the recipe has no what.sweep that chooses its SAE"
    assert found["scans.mr"]["not_computed"] == "it has no scans of a dataset mr"


def test_the_figures_of_sail_by_hand() -> None:
    found = rows()

    def here(name: str) -> Any:
        return found[f"{name}.biomedparse"]["here"]

    assert here("r2") == 0.93 and here("l0") == 130 and found["r2.biomedparse"]["published"] == 0.9314
    assert (here("r2.most"), here("r2.least"), here("r2.least.l0")) == (0.93, 0.89, 9.8) and found["grid"]["here"] == 2
    assert here("chosen") == found["chosen.biomedparse"]["published"]
    assert here("dense") == pytest.approx(0.85) and here("mean.10") == pytest.approx(0.65), "sex does not count"
    assert (
        here("ratio.all") == pytest.approx(0.65 / 0.85)
        and "0.429 above chance" in found["ratio.all.biomedparse"]["note"]
    )
    assert here("claim.fewer") == pytest.approx(0.9935, abs=1e-4) and here("counted") == 2
    liver = found["probe.liver.dense.biomedparse"]
    assert (liver["here"], liver["low"], liver["high"], liver["n"]) == (0.9, 0.8, 1.0, 50)
    assert here("c.top_10") == pytest.approx(sum(0.05 * i for i in range(10)) / 10) and here("m.above") == 9
    assert found["null.10"]["here"] == 0.11 and "images is 10" in str(found["null.50"]["not_computed"])
    assert here("retrieval.crossing") == 5 and found["retrieval.100.sparse.biomedparse"]["not_computed"]
    assert here("judge.first") == 4 and found["judge.success.biomedparse"]["low"] == 0.41


def test_the_figures_of_medsae_by_hand() -> None:
    found = rows("medsae", arm=None)
    assert found["entropy.gain"]["here"] == pytest.approx(0.3) and found["entropy.sae"]["note"].startswith(
        "2.370 ± 0.010"
    )
    assert (found["names.passed"]["here"], found["names.passed"]["n"]) == (3, 5)
    assert found["names.passed"]["note"] == "0.2 expected of coin tosses on 20 to 22 images"
    assert found["names.least"]["here"] == 0.72 and found["names.example"]["here"] == 0.8
    assert found["names.example"]["note"] == "named name 1" and found["dead"]["here"] == 0.375


def test_the_control_of_a_run_stands_for_the_arm_with_random_weights() -> None:
    found = rows()
    assert found["dense.random"]["here"] == pytest.approx(0.6)
    assert "medsae run sail-paper --set what.encoder.kind=dinov3" in str(found["dense.dinov3"]["not_computed"])
    assert rows(arm="dinov3")["dense.random"]["here"] is None, "its control is of another network"
    assert rows(arm="random")["dense.random"]["here"] == pytest.approx(0.85)


def test_a_judge_that_says_nothing_gives_no_figure_of_its_names() -> None:
    summary = dict(evidence().summary)
    both = summary["rankings"]["arms"]["both"] | {"doubt": "the model cannot rank"}
    found = rows(summary=summary | {"rankings": {"arms": {"both": both}}})
    assert found["judge.success.biomedparse"]["not_computed"] == "the model cannot rank"
    assert found["judge.unparsed.biomedparse"]["here"] == 1
