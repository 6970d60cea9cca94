import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import medsae_ray
from medsae_ray.core.analysis.findings import Finding
from medsae_ray.core.analysis.patch_maps import Pair, PatchMap, Square
from medsae_ray.core.artifacts import schema
from medsae_ray.core.report.data import EntropySummary, Patches, ReplicationReport, ReportData
from medsae_ray.core.report.render import render_report
from medsae_ray.core.report.text import DASH, MINUS, count, interval, percent, real
from medsae_ray.errors import ArtifactError
from tests.core.report.named import full_naming, unknown, without_rows
from tests.core.report.page import Page
from tests.core.report.sample import LABELS, full, minimal, training_log

EVIL = "<script>alert('x')</script>"
NAN = math.nan


def hostile() -> ReportData:
    """Markup in every string, NaN or null for every number, and no thumbnail that can be read."""
    labels = [EVIL, "quote \" and & and '"]
    row = dict.fromkeys(schema.atlas(2).names)
    row |= {
        "space": "sae",
        "feature": 1,
        "n_images": 0,
        "n_active": 0,
        "frequency": NAN,
        "name": EVIL,
        "name_source": EVIL,
    }
    row |= {"histogram": [0] * schema.HISTOGRAM_BINS, "top_images": [EVIL, '"><img src=x>'], "top_values": [NAN, 1.0]}
    row |= {"r": [NAN] * 2, "r_low": [NAN] * 2, "r_high": [NAN] * 2, "auroc_positives": 0, "auroc_negatives": 0}
    row |= {"best_label": EVIL, "best_r": 0.25}
    missing = Finding(EVIL, 1, *[NAN] * 6, 0, 0)
    return ReportData(
        title=EVIL,
        notice=EVIL,
        counts={EVIL: 3},
        not_ok={EVIL: 1},
        provenance={EVIL: EVIL},
        labels=labels,
        sae=dict.fromkeys(("r2", "fvu", "l0", "dead", "width", "alive"), NAN),
        entropy=EntropySummary(NAN, NAN, NAN, NAN, NAN, NAN, 2, 0, 0),
        log=pa.table({name: [NAN, NAN] for name in training_log(0).column_names} | {"epoch": [0, 1]}),
        atlas=pa.Table.from_pylist([row, {**row, "feature": 2, "best_r": NAN}], schema=schema.atlas(2)),
        findings=[missing],
        raw_findings=[missing],
        thumbnail=lambda image_id: b"no picture",
        stages=[{"name": EVIL, "artifact": EVIL, "rows": None, "not_ok": NAN, "seconds": NAN}],
    )


@pytest.fixture(scope="module")
def whole() -> tuple[ReportData, str]:
    data = full()
    return data, render_report(data)


@pytest.fixture(scope="module")
def named() -> tuple[ReportData, str]:
    data = full_naming()
    return data, render_report(data)


PAGES = {
    "minimal": minimal,
    "hostile": hostile,
    "one label": lambda: full(["Only label"], 3),
    "names": lambda: full_naming(["Only label"], 9),
    "names that are hostile": lambda: unknown(EVIL),
    "names of nothing": lambda: replace(minimal(), naming=without_rows()),
    "names all abstained": lambda: full_naming(features=12, status=lambda feature: "abstained"),
    "names all failed": lambda: full_naming(features=12, status=lambda feature: "named", failed=lambda feature: 50),
}


@pytest.fixture(scope="module", params=["whole", *PAGES])
def content(request: pytest.FixtureRequest, whole: tuple[ReportData, str]) -> str:
    """The pages on which every general promise must hold."""
    return whole[1] if request.param == "whole" else render_report(PAGES[request.param]())


def test_every_page_nests_and_its_links_lead_somewhere(content):
    page = Page(content)
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert "Not for clinical use." in page.text


def test_a_page_loads_nothing_and_tells_no_path_of_its_machine(content):
    assert not re.search(r"https?://|url\(|@import|<link|<script|<iframe", content)
    assert all(source.startswith("data:image/jpeg;base64,") for source in Page(content).sources)
    assert str(Path(medsae_ray.__file__).parent) not in content


def test_a_missing_number_is_never_printed_as_nan_or_none(content):
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", Page(content).text)
    assert not re.search(r'="[^"]*\bnan\b', content)


def test_each_finding_stands_with_its_numbers(whole):
    data, content = whole
    words = Page(content).text
    for f, w in zip(data.findings, data.raw_findings, strict=True):
        found = f"{f.label} {f.feature} {real(f.r, 2, signed=True)} {interval(f.r_low, f.r_high)}"
        assert f"{found} {real(f.auroc)} {interval(f.auroc_low, f.auroc_high)}" in words
        assert (
            f"{w.feature} {real(w.auroc)} {interval(w.auroc_low, w.auroc_high)} {f.positives} / {f.negatives}" in words
        )


def test_the_summary_stands_with_its_null(whole):
    words = Page(whole[1]).text
    assert f"SAE features 496 2.252 2.370 ± 0.0041 {MINUS}28.9 sd 0.853 0.931 0.069 32.0 3.1 %" in words
    assert "Raw encoder dimensions 512 2.381 2.373 ± 0.0049 +1.7 sd 0.902 not applicable" in words


def test_counts_reasons_provenance_and_stages_are_on_the_page(whole):
    data, content = whole
    words = Page(content).text
    assert data.title in words and data.notice in words
    assert all(f"{name} {count(n)}" in words for name, n in data.counts.items())
    assert all(f"{reason} {n}" in words for reason, n in data.not_ok.items())
    assert all(f"{key} {value}" in words for key, value in data.provenance.items())
    assert "embeddings embeddings-81d0c2aa 9,214 9 312.4" in words and f"sae sae-3f9a1c20 40 {DASH} 58.1" in words
    assert "manifest manifest-77aa01d3 9,214 0 there already" in words


def test_each_card_has_its_feature_with_images_and_frequency(whole):
    data, content = whole
    page, rows = Page(content), {row["feature"]: row for row in data.atlas.to_pylist()}
    shown = [int(name.removeprefix("feature-")) for name in page.ids if name.startswith("feature-")]
    assert len(shown) == 24 and {f.feature for f in data.findings} <= set(shown)
    assert len(page.sources) == 24 * 8
    assert set(page.hovers) == {image for feature in shown for image in rows[feature]["top_images"]}
    assert all(
        f"active on {percent(rows[feature]['frequency'])}".replace("\u00a0", " ") in page.text for feature in shown
    )
    assert not any(image in page.text for image in page.hovers)


def test_the_page_stays_small(whole):
    assert len(whole[1]) < 1_500_000
    assert len(render_report(minimal())) < 40_000


def test_the_same_data_gives_the_same_page(whole):
    assert render_report(whole[0]) == whole[1]


def test_a_run_with_nothing_to_show_says_so():
    text = Page(render_report(minimal())).text
    for said in (
        "no labels",
        "No epoch was logged",
        "no map",
        "no feature to show",
        "Every image was read",
        "No stage",
    ):
        assert said in text


def test_markup_in_names_is_shown_and_not_obeyed():
    page = Page(render_report(hostile()))
    assert "script" not in page.tags and "img" not in page.tags
    assert page.text.count(EVIL) >= 8
    assert EVIL in page.hovers and "no image" in page.text


def test_an_atlas_of_other_labels_is_refused():
    with pytest.raises(ArtifactError, match="atlas"):
        render_report(replace(full(), labels=LABELS[:3]))


def test_a_log_that_lacks_a_column_is_refused():
    with pytest.raises(ArtifactError, match="dead_share"):
        render_report(replace(minimal(), log=training_log(2).drop(["dead_share"])))


def test_a_run_without_names_says_nothing_of_them(whole):
    page = Page(whole[1])
    assert "names" not in page.ids and "Detection AUROC" not in page.text and "details" not in page.tags
    assert "badge" not in whole[1]


def test_the_counts_of_both_sources_stand_with_chance_and_the_papers_count(named):
    data, content = named
    words = Page(content).text
    for source, said in (("vlm", "Vision-language model"), ("label", "Label")):
        c = data.naming.counts[source]
        verdicts = f"{c.verified} {c.rejected} {c.untested} {c.abstained} {c.insufficient_support} {c.failed} {c.dead}"
        chance = f"{real(c.expected_by_chance, 1)} {real(c.random_name_auroc)} {real(c.random_name_auroc_hard)}"
        paper = f"{c.paper.passed} of {c.paper.names} 50 {real(c.paper.expected_by_chance, 1)}"
        assert f"{said} {c.named} {c.tested} {verdicts} {chance} {paper}" in words


def test_each_label_stands_with_its_ceiling_and_its_features_name(named):
    data, content = named
    words = Page(content).text
    score_of = {row["feature"]: row for row in data.naming.scores.to_pylist() if row["source"] == "vlm"}
    for finding in data.findings:
        area, score = data.naming.ceilings[finding.label], score_of[finding.feature]
        assert f"{finding.label} {real(area.auc)} {interval(area.low, area.high)} 25 / 25" in words
        if score["auroc"] is not None:
            said = f"{finding.feature} {real(score['auroc'])} {interval(score['low'], score['high'])}"
            assert f"{said} {score['name']} {score['verdict']}" in words


def test_a_card_tells_the_test_of_each_name(named):
    data, content = named
    page = Page(content)
    shown = {int(name.removeprefix("feature-")) for name in page.ids if name.startswith("feature-")}
    scores = [row for row in data.naming.scores.to_pylist() if row["feature"] in shown]
    tested = [row for row in scores if row["auroc"] is not None]
    assert len(tested) > 30
    for row in tested:
        assert f"Detection AUROC {real(row['auroc'])} {interval(row['low'], row['high'])} 25 active" in page.text
        assert f"random names {real(row['null_mean'], 2)}, at most {real(row['null_max'], 2)}" in page.text
    by_model = sum(row["source"] == "vlm" for row in tested)
    assert content.count('class="roc"') == content.count('class="strip"') == by_model
    assert page.text.count("Shortcut suspected.") == sum(row["shortcut_suspected"] for row in tested)
    assert page.text.count("The model's evidence for the name") == sum(
        row["source"] == "vlm" and row["verdict"] in ("verified", "rejected", "abstained") for row in scores
    )


def test_verdicts_neither_choose_nor_order_cards(whole, named):
    cards = [[name for name in Page(content).ids if name.startswith("feature-")] for _, content in (whole, named)]
    assert cards[0] == cards[1]


def test_markup_from_a_model_is_shown_and_not_obeyed():
    page = Page(render_report(unknown(EVIL)))
    assert "script" not in page.tags and page.text.count(EVIL) >= 50
    assert "by the vision-language model" in page.text


def test_markup_in_charts_of_names_is_shown_and_not_obeyed():
    page = Page(render_report(full_naming([EVIL, "b"], 6)))
    assert "script" not in page.tags and f"label: {EVIL}" in page.text


def test_a_page_of_any_reply_can_be_written_down():
    assert render_report(unknown("\\ud800 \x00 \u202e")).encode()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"status": lambda feature: "abstained"}, ["The model named no feature", "No name abstained"]),
        (
            {"status": lambda feature: "named", "failed": lambda feature: 50},
            ["Untested: 50 of 50 questions have no answer", "50 questions have no answer and count as wrong"],
        ),
        (
            {"status": lambda feature: "failed"},
            ["The model gave no name that fits the schema in 2 attempts", "cut off"],
        ),
        ({"status": lambda feature: "insufficient_support"}, ["Too few patients to test it: 3 patients."]),
    ],
)
def test_a_run_whose_names_came_to_nothing_says_so(options, said):
    words = Page(render_report(full_naming(features=12, **options))).text
    assert all(sentence in words for sentence in said)


def test_names_of_another_schema_are_refused():
    data = full_naming(features=3)
    with pytest.raises(ArtifactError, match="names"):
        render_report(replace(data, naming=replace(data.naming, names=data.naming.names.drop(["status"]))))


def replication(label: str = "Edema") -> ReplicationReport:
    pair = {"north": {"r": 0.8, "low": 0.7, "high": 0.9}, "south": {"r": None, "low": None, "high": None}}
    row = {"source": "north", "label": label, "feature": 3, "verdict": "not_replicated", "datasets": pair}
    counts = {"north": {"selected": 12, "replicated": 4, "untested": 0}}
    return ReplicationReport(["north", "south"], [row], counts, {"north and south": 5}, 2)


def test_a_run_over_several_datasets_shows_what_replicates() -> None:
    page = Page(render_report(replace(full(), replication=replication())))
    assert "Edema north 3 +0.80 [0.70, 0.90] – not replicated" in page.text
    assert "12 selected in north, of which 4 replicated" in page.text
    assert "north and south 5; 2 of these pairs are in different splits" in page.text
    assert "#replication" in page.links and "def-replicated" in page.ids
    assert "replication" not in Page(render_report(full())).ids


def test_a_label_of_another_dataset_is_text_in_the_replication_table_too() -> None:
    assert EVIL not in render_report(replace(full(), replication=replication(EVIL)))


def test_a_run_over_patches_lays_their_activation_over_the_images() -> None:
    asked: list[Pair] = []

    def maps(wanted: Sequence[Pair]) -> dict[Pair, PatchMap]:
        asked.extend(wanted)
        return {pair: PatchMap(np.eye(4, dtype=np.float32), Square(0, 0, 1, 1)) for pair in wanted[:-1]}

    page = render_report(replace(full(), patches=Patches((4, 4), maps)), cards=3)
    assert len(asked) == len(set(asked)) == 24 and page.count('class="heat"') == 23
    assert page.count('src="data:image/png') == 23 and page.count('src="data:image/jpeg') == 24
    assert "maximum over the patches" in page and "(L0)" in page and "features per patch" in Page(page).text
    plain = render_report(full(), cards=3)
    assert 'class="heat"' not in plain and "patch" not in Page(plain).text
