import math
from dataclasses import replace

import pytest
from markupsafe import Markup

from medsae_ray.core.analysis.findings import Finding
from medsae_ray.core.report import view
from medsae_ray.core.report.data import EntropySummary
from tests.core.report.sample import full

DATA = full(features=60)
ROWS = view.strongest(DATA)


def test_features_are_ordered_by_discovery_and_not_by_held_out_figures():
    sizes = [abs(row["best_r"]) for row in ROWS]
    assert sizes == sorted(sizes, reverse=True)
    assert [row["auroc"] for row in ROWS] != sorted((row["auroc"] for row in ROWS), reverse=True)


def test_the_features_of_the_findings_have_cards_before_others():
    wanted = {finding.feature for finding in DATA.findings}
    shown = view.carded(ROWS, DATA, len(wanted) + 2)
    assert len(shown) == len(wanted) + 2 and wanted <= {row["feature"] for row in shown}
    assert shown == [row for row in ROWS if row in shown]


@pytest.mark.parametrize(("cards", "expected"), [(0, 0), (5, 5), (1000, 60)])
def test_no_more_cards_are_made_than_asked_for(cards, expected):
    assert len(view.carded(ROWS, DATA, cards)) == expected


def test_a_label_without_a_unit_still_has_a_row_and_comes_last():
    missing = DATA.findings[0].label
    rows = view.finding_rows(replace(DATA, findings=DATA.findings[1:], raw_findings=[]))
    assert {row.label for row in rows} == set(DATA.labels)
    assert rows[-1].label == missing and rows[-1].sae is None


@pytest.mark.parametrize(
    ("r", "low", "holds"),
    [(0.4, 0.6, True), (0.4, 0.5, False), (-0.4, 0.6, False), (math.nan, 0.6, False), (0.4, math.nan, False)],
)
def test_a_finding_holds_only_if_the_whole_interval_is_above_chance(r, low, holds):
    finding = Finding("Edema", 3, r, 0.3, 0.5, 0.8, low, 0.9, 30, 70)
    assert view.FindingRow("Edema", finding, None, Markup()).holds is holds
    assert not view.FindingRow("Edema", None, finding, Markup()).holds


def test_the_distance_from_the_null_is_in_its_standard_deviations():
    row, raw = view.entropy_rows(EntropySummary(2.0, 2.4, 2.3, 0.1, 2.3, 0.0, 14, 10, 20))
    assert row.distance == pytest.approx(-3.0)
    assert row.share == pytest.approx(2.0 / math.log(14))
    assert math.isnan(raw.distance)


@pytest.mark.parametrize(
    ("sae", "raw", "said"),
    [
        (2.0, 2.0, "so are the raw"),
        (2.0, 2.3, "raw dimensions are not"),
        (2.25, 2.0, "not below"),
        (math.nan, 2.0, "no entropy"),
    ],
)
def test_the_verdict_follows_the_null_and_not_the_entropy_alone(sae, raw, said):
    summary = EntropySummary(sae, raw, 2.3, 0.1, 2.3, 0.1, 14, 10, 20)
    assert said in view.entropy_verdict(*view.entropy_rows(summary))


def test_one_scale_holds_all_correlations_of_a_kind():
    rows = [{"r": [0.31, math.nan]}, {"r": [-0.42]}]
    assert view.common_limit(rows, ("r",)) == 0.5
    assert view.common_limit([], ("r",)) == 0.1


def test_activations_outside_the_bins_are_counted():
    row = {**ROWS[0], "n_active": sum(ROWS[0]["histogram"]) + 3}
    assert view.card(row, replace(DATA, thumbnail=lambda image_id: None), 0.5, {}).outside == 3
