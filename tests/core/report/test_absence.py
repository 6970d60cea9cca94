"""Absence, probes and labels of images on the page."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.findings import Finding
from medsae_ray.core.report.data import EntropySummary
from medsae_ray.core.report.render import render_report
from medsae_ray.core.report.text import MINUS, count
from tests.core.report.page import Page
from tests.core.report.sample import LABELS, full
from tests.core.report.test_render import EVIL, NAN, hostile


def absence(label: str = LABELS[3], by_dataset: dict[str, Auroc] | None = None) -> Finding:
    return Finding(
        label, 150, -0.94, -0.95, -0.93, 0.996, 0.99, 0.999, 190, 10, present=False, by_dataset=by_dataset or {}
    )


def test_a_strong_feature_of_absence_has_a_row_and_a_card() -> None:
    data = full()
    apart = {"north": Auroc(0.93, 0.9, 0.95, 9, 9), "south": Auroc(0.42, 0.3, 0.5, 9, 9)}
    weak = Finding(LABELS[5], 151, -0.1, -0.2, 0.0, 0.6, 0.5, 0.7, 9, 9, present=False)
    page = Page(render_report(replace(data, absences=[absence(by_dataset=apart), weak])))
    row = f"no {LABELS[3]} 150 {MINUS}0.94 [{MINUS}0.95, {MINUS}0.93] 0.996 [0.990, 0.999]"
    assert row.replace("[0.990, 0.999]", "[0.99, 1.00] north 0.93, south 0.42") in page.text
    assert "feature-150" in page.ids and f"no {LABELS[5]}" not in page.text and "feature-151" not in page.ids


def test_probes_stand_beside_the_best_units() -> None:
    probes = {LABELS[0]: {"raw": Auroc(0.987, 0.97, 0.99, 20, 80), "sae": Auroc(0.98, 0.96, 0.99, 20, 80)}}
    page = Page(render_report(replace(full(), probes=probes)))
    assert "– 0.987 [0.97, 0.99] 0.980 [0.96, 0.99]" in page.text and {"def-probe", "def-means"} <= {*page.ids}
    means = {LABELS[0]: {"means": Auroc(0.971, 0.95, 0.98, 20, 80)}}
    assert "0.971 [0.95, 0.98] – –" in Page(render_report(replace(full(), probes=means))).text
    assert "def-probe" not in Page(render_report(full())).ids


def test_labels_stand_under_the_images_and_are_counted() -> None:
    data = full()
    asked: list[Sequence[str]] = []

    def labels_of(image_ids: Sequence[str]) -> dict[str, list[float]]:
        asked.append(image_ids)
        return {image: [1.0, 0.0, 1.0, *[NAN] * 11] for image in image_ids}

    page = Page(render_report(replace(data, labels_of=labels_of), cards=24))
    assert len(asked) == 1 and len(asked[0]) == len(set(asked[0]))
    assert page.text.count(f"{LABELS[0]}, {LABELS[2]}") == 24 * 8
    cards = [row for row in data.atlas.to_pylist() if f"feature-{row['feature']}" in page.ids]
    having = [row for row in cards if row["best_label"] == LABELS[0]]
    for row in having:
        p, n = row["auroc_positives"], row["auroc_negatives"]
        assert f"8 of 8 with {LABELS[0]}, {count(p)} of {count(p + n)} in the test" in page.text
    assert having and f"0 of 8 with {LABELS[1]}," in page.text


def test_a_card_of_absence_is_headed_and_counted_by_it() -> None:
    data = full()
    (row,) = [row for row in data.atlas.to_pylist() if row["feature"] == 0]
    turned = {**row, "best_label": LABELS[0], "best_r": -0.9, "r": [-0.9, *row["r"][1:]]}
    atlas = pa.Table.from_pylist([turned], schema=data.atlas.schema)
    both = {image: [float(i < 2)] * 14 for i, image in enumerate(row["top_images"])}
    page = Page(render_report(replace(data, atlas=atlas, findings=[], labels_of=lambda image_ids: both)))
    p, n = row["auroc_positives"], row["auroc_negatives"]
    assert "AUROC for “Finding”" in page.text
    assert f"6 of 8 without {LABELS[0]}, {count(n)} of {count(p + n)} in the test" in page.text


def test_one_label_has_no_entropy_and_the_page_says_so() -> None:
    nothing = EntropySummary(NAN, NAN, NAN, NAN, NAN, NAN, 1, 0, 0)
    assert "With one label there is no entropy." in Page(render_report(replace(full(), entropy=nothing))).text


def test_a_hostile_label_of_an_image_and_of_absence_is_text() -> None:
    data = hostile()
    said = replace(
        data, absences=[absence(EVIL)], labels_of=lambda image_ids: {image: [1.0, 1.0] for image in image_ids}
    )
    assert EVIL not in render_report(said)
