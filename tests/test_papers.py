"""The papers' recipes on small copies of their datasets: from files in the published layout to the page."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from medsae_ray.cli import main
from medsae_ray.config import load_recipe, read_change
from medsae_ray.core.papers.compare import PaperRow
from medsae_ray.core.papers.published import load
from medsae_ray.outputs.papers import arm_of
from medsae_ray.outputs.summary_types import Summary
from medsae_ray.pipeline import run_recipe
from medsae_ray.plan import plan
from tests.core.encoders.every import MAKERS
from tests.engine.chat_server import chat_server
from tests.support.papers import chexpert_phantoms, sail_scans, told
from tests.support.typed import fits

NAMING = (
    "{positives: 3, contrasts: 2, attempts: 1, image_size: 32, "
    "detection: {positives: 10, negatives: 10, pool: 40, support: 10}"
)
HERE = ("how.engine=loop", "how.embed.gpus=0", "how.train.gpus=0", "how.encode.gpus=0")
MEDSAE = ("what.encoder.kind=medclip-vit", "how.paths.weights=builtin:phantom-encoder", f"what.naming={NAMING}}}",
          "what.sae.width=24", "what.sae.epochs=30", "what.sae.batch_size=32", "what.features.permutations=5",
          "what.split={sae: 0.4, naming: 0.25, detection: 0.35}")  # fmt: skip
JUDGE = "judge: {columns: [modality, plane, sex, age, pathology], labels: true, features: 8}"
SAIL = ("what.encoder.size=64", f"what.naming={NAMING}, {JUDGE}}}", "what.sae.width=32",
        "what.sae.levels=[4, 8, 16, 32]",
        "what.sae.ks=[1, 2, 3, 5]", "what.sae.epochs=3", "what.sae.batch_size=64",
        "what.sweep.grid={levels: [[4, 8, 16, 32], [2, 4, 8, 16]], ks: [[1, 2, 3, 5]]}", "what.shard_rows=128",
        "what.recovery.sizes=[1, 10]", "what.retrieval={ks: [1, 5], references: 20}", "what.features.permutations=3",
        "what.monosemanticity.draws=10")  # fmt: skip


WITH_FIGURE = ("r2.most", "m.scored", "dense", "mean.10", "ratio.all", "probe.liver.dense", "probe.ct.dense",
               "probe.tumor.ten", "retrieval.5.sparse", "retrieval.whole", "judge.success", "judge.distinct", "alive",
               "chosen")  # fmt: skip


@contextmanager
def run(name: str, root: Path, *changes: str) -> Iterator[tuple[Summary, str]]:
    """The summary of a run of a packaged recipe, and what it printed."""
    with chat_server(told) as (url, _):
        vlm = f"how.vlm={{model: tiny, url: '{url}', in_flight: 4}}"
        recipe = load_recipe(name, [read_change(text) for text in (*HERE, *changes, vlm)])
        console = Console(record=True, width=200, file=(root / "said").open("w"))
        yield run_recipe(recipe, str(root), console), console.export_text()


def by_id(summary: Summary) -> dict[str, PaperRow]:
    return {row["id"]: row for row in summary["paper"]}


def page_of(root: Path, rows: list[PaperRow]) -> str:
    """The page, which has a row for each figure."""
    page = (root / "papers.html").read_text()
    assert all(f'id="{row["id"]}"' in page for row in rows)
    return page


@pytest.mark.parametrize("name", ["medsae-paper", "sail-paper"])
def test_a_plan_without_data_says_what_is_missing_and_where_to_get_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paper = load(name.removesuffix("-paper"))
    assert main(["plan", name, "--root", str(tmp_path / "root")]) == 1
    said = capsys.readouterr().out
    assert all(need.page in said and need.access in said for need in paper.needs)
    assert f"images: as in the paper, {paper.images:,}" in said and "fetched at its first use: MedGemma" in said
    assert f"{paper.title}: {len(paper.figures)} published figures" in said
    found = plan(load_recipe(name), str(tmp_path / "root"))
    states = {need["key"]: need["state"] for need in found["paper"]["needs"]}
    data = ("table",) if name == "medsae-paper" else ("datasets.ct.images", "datasets.mr.images")
    assert {states[f"how.paths.{key}"] for key in data} == {"missing"} and states["how.vlm.model"] == "fetched"
    embeddings = next(stage for stage in found["stages"] if stage["stage"] == "embeddings")
    assert embeddings["bytes"] == paper.images * 4 * (512 if name == "medsae-paper" else 1536)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("arm", ["biomedparse", "dinov3", "random"])
def test_the_command_of_each_arm_is_of_that_arm(arm: str) -> None:
    paper = load("sail")
    changes = [read_change(text) for text in paper.arms[arm].how.split() if text != "--set"]
    assert arm_of(load_recipe("sail-paper", changes), paper) == arm


def test_medsae_goes_from_chexperts_layout_to_its_page(tmp_path: Path) -> None:
    table = chexpert_phantoms(tmp_path, 90)
    with run("medsae-paper", tmp_path, f"how.paths.table={table}", *MEDSAE) as (summary, said):
        fits(summary, Summary)
        rows, page = by_id(summary), page_of(tmp_path, summary["paper"])
    assert list(rows) == [figure.id for figure in load("medsae").figures]
    assert rows["labels"]["here"] == rows["labels"]["published"] == 14 and rows["dimensions"]["here"]
    assert (
        0 < rows["entropy.sae"]["here"] < rows["entropy.raw"]["here"] + 1 and "shuffled" in rows["entropy.sae"]["note"]
    )
    assert rows["names.passed"]["n"] and summary["names"]["paper"]["passed"] == rows["names.passed"]["here"]
    assert "what.sae.width: 24, in the packaged recipe 8192" in page and "what.encoder.kind" in page
    assert "MedSAE: of 11 published figures" in said
    assert json.loads((tmp_path / "summary.json").read_text())["paper"] == summary["paper"]


def test_sail_goes_from_totalsegmentators_layout_to_its_page(tmp_path: Path) -> None:
    places = [
        f"how.paths.datasets.{name}.images={sail_scans(tmp_path / name, name, 40, seed)}"
        for seed, name in enumerate(("ct", "mr"))
    ]
    weights = MAKERS["biomedparse"](tmp_path).weights
    listed = "[{kind: totalsegmentator, name: ct, every: 5}, {kind: totalsegmentator, name: mr, every: 5}]"
    changes = (f"what.datasets={listed}", *places, f"how.paths.weights={weights}", *SAIL)
    with run("sail-paper", tmp_path, *changes) as (summary, _):
        fits(summary, Summary)
        rows, page = by_id(summary), page_of(tmp_path, summary["paper"])
    assert list(rows) == [figure.id for figure in load("sail").figures]
    assert rows["scans.ct"]["here"] == rows["scans.mr"]["here"] == 40 and rows["grid"]["here"] == 2
    for figure in WITH_FIGURE:
        row = rows[f"{figure}.biomedparse"]
        assert row["here"] is not None, (figure, row["not_computed"])
    assert rows["dense.random"]["here"] is not None and rows["probe.liver.dense.biomedparse"]["low"] is not None
    assert "medsae run sail-paper --set what.encoder.kind=dinov3" in page
