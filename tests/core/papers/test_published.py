"""The figures of the papers as data: none is missing, and each names its source and a measure."""

import inspect
from collections import Counter

import pytest

from medsae_ray.config import load_recipe
from medsae_ray.core.papers.compare import MEASURES
from medsae_ray.core.papers.published import PaperName, load

MEDSAE = {
    *("dimensions", "width", "labels", "centred", "entropy.raw", "entropy.sae", "entropy.gain"),
    *("names.passed", "names.least", "names.example", "dead"),
}
ALONE = {"scans.ct", "scans.mr", "slices", "organs", "official.train", "official.valid", "official.test", "grid"}
ALONE |= {"grid.all", "null.5", "null.10", "null.20", "null.50"}
ALL_ARMS = {
    *("dimensions", "r2", "l0", "r2.most", "r2.least", "alive", "chosen", "m.top_10", "m.top_50", "c.top_10"),
    *("s.top_10", "m.scored", "m.above", "dense", "full", "counted", "mean.1", "mean.3", "mean.10", "mean.50"),
    *("ratio.all", "retrieval.5.sparse", "retrieval.5.dense", "retrieval.whole"),
}
FIRST = {"r2.most.l0", "r2.least.l0", "claim", "claim.fewer", "ratio.18"}
TARGETS = ("ct", "x", "y", "z", "sex", "young", "liver", "spleen", "heart", "brain", "tumor", "trauma", "inflammation")
BOTH = {
    *("retrieval.100.sparse", "retrieval.100.dense", "retrieval.crossing", "judge.success", "judge.mean_rank"),
    *("judge.first", "judge.unparsed", "judge.distinct", "test.tumor", "test.trauma"),
    *(f"language.{what}" for what in ("modality", "orientation", "sex", "age")),
    *(f"probe.{target}.{columns}" for target in TARGETS for columns in ("dense", "full", "ten")),
}
SAIL = ALONE | {f"{one}.biomedparse" for one in ALL_ARMS | FIRST | BOTH}
SAIL |= {f"{one}.dinov3" for one in ALL_ARMS | BOTH | {"ratio.best"}} | {f"{one}.random" for one in ALL_ARMS}


@pytest.mark.parametrize(("name", "wanted"), [("medsae", MEDSAE), ("sail", SAIL)])
def test_every_figure_of_the_paper_is_there_once(name: PaperName, wanted: set[str]) -> None:
    ids = Counter(figure.id for figure in load(name).figures)
    assert set(ids) == wanted and max(ids.values()) == 1


@pytest.mark.parametrize("name", ["medsae", "sail"])
def test_every_figure_has_a_source_a_reason_to_differ_and_a_measure(name: PaperName) -> None:
    for figure in load(name).figures:
        assert figure.source and figure.says and figure.differs.endswith("."), figure.id
        assert figure.comparable in ("yes", "in part", "no"), figure.id
        for call in filter(None, (figure.here, figure.also)):
            measure, *arguments = call
            inspect.signature(MEASURES[measure]).bind(None, *arguments)


@pytest.mark.parametrize("name", ["medsae", "sail"])
def test_every_need_says_where_to_get_it(name: PaperName) -> None:
    for need in load(name).needs:
        assert need.page.startswith("https://") and need.access and need.size and need.files


@pytest.mark.parametrize("name", ["medsae", "sail"])
def test_the_papers_recipe_is_there_and_asks_for_its_page(name: PaperName) -> None:
    assert load_recipe(load(name).recipe).paper == name


def test_the_recipe_of_sail_is_its_grid_and_its_choices() -> None:
    what, paper = load_recipe("sail-paper").what, load("sail")
    members = what.members()
    assert (len(members.members), members.left_out) == (28, 4)
    settings = [member.sae.settings() for member in members.members]
    for arm in paper.arms.values():
        assert any(all(list(one[key]) == arm.sae[key] for key in arm.sae) for one in settings), arm.title
    own = {label for labels in what.recovery.groups.values() for label in labels}
    assert own == {target for target in paper.targets if "=" not in target and target[:3] != "age"}
    both = [label for label, names in what.labels.items() if len(names) == 2]
    assert 117 + 50 - len(both) == 121, "of CT's 117 and MRI's 50 masks"
