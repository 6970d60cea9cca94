from dataclasses import replace
from typing import Any

import pytest

from medsae_ray.core.artifacts.recovery import CurvePoint, RecoveryMetrics
from medsae_ray.core.report.recovery import RecoveryReport, recovery_plot, recovery_section
from medsae_ray.core.report.render import render_report
from medsae_ray.outputs.recovery import recovery_line
from tests.core.report.sample import full


def point(kind: str, n: int | None, auroc: float, dense: float = 0.9) -> CurvePoint:
    above = (auroc - 0.5) / (dense - 0.5)
    return CurvePoint(
        kind=kind, n=n, auroc=auroc, ratio=auroc / dense, ratio_low=None, ratio_high=None,
        above_chance=above, above_chance_low=above - 0.1, above_chance_high=above + 0.1,
    )  # fmt: skip


def figures(curves: list[CurvePoint], **others: Any) -> RecoveryMetrics:
    made: dict[str, Any] = {
        "targets": 3, "tested": 2, "counted": 2, "dense_above": 0.6, "dense": 0.9, "curves": curves,
        "untested": {"sex=<b>": "3 test patients with it, 10 are needed"}, "fitted": 60, "judged": 20, "measured": 20,
    }  # fmt: skip
    return RecoveryMetrics(**(made | others))


def row(kind: str | None, n: int | None, auroc: float | None, **others: Any) -> dict[str, Any]:
    columns = list(range(4, 4 + n)) if n else None
    made = {"target": "Edema", "group": "labels", "kind": kind, "n": n, "auroc": auroc, "low": auroc, "high": auroc}
    return made | {"positives": 40, "negatives": 60, "columns": columns, "untested": None} | others


CURVES = [
    *(point("features", n, area) for n, area in ((1, 0.6), (3, 0.7), (10, 0.8), (50, 0.85))),
    *(point("random", n, 0.5 + n / 200) for n in (1, 3, 10)),
    point("shuffled", 10, 0.5), point("dimensions", 10, 0.7), point("dimensions", None, 0.9),
]  # fmt: skip
ROWS = [
    row("dimensions", None, 0.9), row("features", None, 0.88), row("features", 1, 0.6), row("features", 3, 0.7),
    row("features", 10, 0.8), row("features", 50, 0.85), row("random", 10, 0.55), row("shuffled", 10, 0.5),
    row(None, None, None, target="sex=<b>", untested="3 test patients with it, 10 are needed"),
]  # fmt: skip


def test_the_section_says_what_ten_features_carry_beside_its_controls() -> None:
    page = render_report(replace(full(), recovery=RecoveryReport(figures(CURVES), ROWS)))
    section = page[page.index('<section id="recovery">') : page.index('<section id="training">')]
    said = " ".join(section.split())
    assert "What ten features carry" in said and "0.75 [0.65, 0.85] of what lies above chance" in said
    assert "random features 0.13" in said and "shuffled labels 0.00" in said
    assert "sex=&lt;b&gt; (3 test patients with it, 10 are needed)" in said and "<b>" not in section
    assert section.count('<path class="curve of-features"') == 2, "the curve, and its key"
    assert 'href="#def-recovery"' in page and 'id="def-recovery"' in page and 'href="#recovery"' in page


def test_a_card_says_which_targets_its_feature_serves() -> None:
    data = full()
    shown = {finding.feature for finding in data.findings}
    rows = [
        row("features", 2, 0.8, columns=sorted(shown)[:2]),
        row("features", 2, 0.8, target="a<b", columns=[min(shown)]),
    ]
    page = render_report(replace(data, recovery=RecoveryReport(figures(CURVES), rows)))
    assert page.count(">Serves</a>: Edema, a&lt;b</p>") == 1 and page.count(">Serves</a>: Edema</p>") == 1


def test_the_table_has_a_row_for_each_target_with_its_strongest_features() -> None:
    section = recovery_section(RecoveryReport(figures(CURVES), ROWS))
    (target,) = section.targets
    assert section.n == 10 and list(section.sizes) == [1, 3, 10] and target.features == [4, 5, 6, 7, 8]
    assert target.recovered(10, 0.6) == pytest.approx(0.75) and target.recovered(10, 0.95) is None


def test_without_a_target_that_counts_there_is_no_curve() -> None:
    nothing = figures([], counted=0, dense=None, untested={})
    page = render_report(replace(full(), recovery=RecoveryReport(nothing, [])))
    assert "neither labels nor metadata" in page and "There is no target that all dimensions tell" in page
    assert "no target of 3 that all dimensions tell" in recovery_line(nothing)
    assert 'id="recovery"' not in render_report(full())


def test_the_plot_shows_every_size_and_the_dense_line() -> None:
    plot = str(recovery_plot(CURVES, 0.9))
    assert all(f">{n}</text>" in plot for n in (1, 3, 10, 50)) and "all dimensions 0.900" in plot
    assert plot.count("<circle") == len(CURVES) - 1 and 'class="dense"' in plot


def test_the_line_says_what_is_carried_above_chance() -> None:
    first, second = recovery_line(figures(CURVES)).splitlines()
    assert first == (
        "10 features carry 0.75 (0.65 to 0.85) of what all dimensions carry above chance, "
        "random features 0.13, shuffled labels 0.00, raw dimensions 0.50"
    )
    assert second == "AUROC 0.80 of 0.90 over 2 targets"
