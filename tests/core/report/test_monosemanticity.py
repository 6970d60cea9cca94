"""Features, raw dimensions and an untrained SAE beside what chance gives."""

from dataclasses import replace
from typing import Any

from medsae_ray.core.artifacts.monosemanticity import MonosemanticityMetrics
from medsae_ray.core.report.monosemanticity import section
from medsae_ray.core.report.render import render_report
from tests.core.report.page import Page
from tests.core.report.sample import full


def figures(value: float | None, null: float | None, sd: float | None) -> Any:
    means = [{"mean": v, "top_10": v, "top_50": None} for v in (value, null, sd)]
    return {"units": 28 if value else 0, **dict(zip(("found", "null", "null_sd"), means, strict=True))}


def metrics(value: float | None = 0.564, null: float | None = 0.026) -> MonosemanticityMetrics:
    sd = None if null is None else 0.015
    measure = dict.fromkeys(("score", "similarity", "purity", "entropy"), figures(value, null, sd))
    return {
        "images": 10,
        "labels": 14 if value else 0,
        "coherence_null": null,
        "coherence_null_subsets": null,
        "coherence_null_sd": sd,
        "similarity_null": 0.394,
        "spaces": dict.fromkeys(("sae", "raw", "untrained"), measure),  # type: ignore[dict-item]
    }


def test_every_mean_stands_beside_its_chance() -> None:
    page = Page(render_report(replace(full(), monosemanticity=metrics())))
    assert page.text.count("0.564 0.026 ± 0.015") == 4 * 3 * 2
    assert {"monosemanticity", "def-monosemanticity", "def-untrained", "def-best-null"} <= {*page.ids}
    assert "a similarity of 0.394" in page.text and "Untrained SAE" in page.text
    assert "monosemanticity" not in Page(render_report(full())).ids


def test_a_card_has_the_figures_of_its_feature() -> None:
    data = full()
    page = Page(render_report(data))
    shown = next(row["feature"] for row in data.atlas.to_pylist() if f"feature-{row['feature']}" in page.ids)
    row = {"coherence": 0.95, "specificity": 0.6, "similarity": 0.49, "similarity_null_sd": 0.02, "purity": None}
    rows = {shown: {**row, "purity_null": None, "reason": "too few"}}
    text = Page(render_report(replace(data, monosemanticity=metrics(), monosemanticity_of=rows))).text
    said = "coherence 0.95 (0.03), specificity 0.60; similarity 0.49 (0.39 ± 0.02); too few"
    assert text.count(said) == 1


def test_without_labels_there_are_dashes_and_no_plot() -> None:
    page = Page(render_report(replace(full(), monosemanticity=metrics(None, None))))
    assert "Over 0 labels" in page.text and " nan" not in page.text
    assert not any(measure.plot for measure in section(metrics(None, None)).measures)


def test_only_what_is_better_than_chance_is_marked() -> None:
    for value, score, entropy in ((0.564, True, False), (0.05, False, False), (0.001, False, False)):
        cells = [measure.lines[0].cells[1] for measure in section(metrics(value)).measures]
        assert (cells[0].better, cells[-1].better) == (score, entropy) and cells[0].null == 0.026
    assert section(metrics(0.3, 0.9)).measures[-1].lines[0].cells[1].better
    assert not section(metrics(None, None)).measures[0].lines[0].cells[0].better
