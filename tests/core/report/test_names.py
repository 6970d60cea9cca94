import math
from dataclasses import replace

import pytest

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.naming.engine import Usage
from medsae_ray.core.naming.verdict import PaperCount
from medsae_ray.core.report import names
from medsae_ray.core.report.data import NameCounts
from tests.core.report.named import blind, full_naming
from tests.core.report.sample import LABELS

DATA = full_naming(features=40)
COUNTS = NameCounts(20, 18, 9, 9, 3, 2, 1, 0.4, 0.5, 0.5, PaperCount(12, 18, 40, 50, 0.1), untested=2)


def said(counts=COUNTS, ceilings=None):
    changes = {"ceilings": ceilings, "seen": frozenset()} if ceilings else {}
    report = replace(DATA.naming, counts={"vlm": counts}, **changes)
    return " ".join(names.names_section(report, LABELS, DATA.findings).sentences).replace("\u00a0", " ")


def test_each_label_stands_with_its_ceiling_and_the_name_of_its_best_feature():
    rows = names.names_section(DATA.naming, LABELS, DATA.findings).labels
    assert [row.label for row in rows] == LABELS
    found = {finding.label: finding.feature for finding in DATA.findings}
    stored = {r["feature"]: r for r in DATA.naming.scores.to_pylist() if r["source"] == "vlm"}
    for row in rows:
        assert row.ceiling == DATA.naming.ceilings[row.label] and row.feature == found.get(row.label)
        assert row.feature is None or (row.name, row.verdict) == tuple(
            stored[row.feature][k] for k in ("name", "verdict")
        )


def test_a_label_without_feature_or_ceiling_has_a_row_all_the_same():
    rows = names.names_section(replace(DATA.naming, ceilings={}), ["Nobody's label"], []).labels
    assert rows[0].feature is None and not rows[0].asked and not rows[0].seen


def test_of_a_model_that_sees_nothing_it_is_said_that_no_name_is_verified():
    assert "so no name is verified" in said(ceilings=blind(LABELS))
    assert "so no name is verified" not in said()


def test_of_ceilings_that_could_not_be_measured_nothing_is_claimed():
    nothing = {label: Auroc(math.nan, math.nan, math.nan, 0, 9) for label in LABELS}
    assert "unknown" in said(ceilings=nothing) and "blind" not in said(ceilings=nothing)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "9 are verified; a namer that gives each feature the name of another would have 0.4 verified."),
        ({"expected_by_chance": 9.2}, "no more than chance"),
        ({"expected_by_chance": math.nan}, "too few names to estimate"),
        ({"named": 0, "tested": 0, "verified": 0}, "named no feature"),
        ({"tested": 0, "verified": 0}, "no name could be tested"),
        ({"random_name_auroc": 0.61}, "a mean AUROC of 0.61 and not 0.5"),
        ({"random_name_auroc": 0.61, "random_name_auroc_hard": 0.52}, "like the active ones it is 0.52."),
        ({"failed": 4}, "For 4 features the model gave no valid name"),
    ],
)
def test_the_sentences_say_what_the_counts_mean(changes, sentence):
    assert sentence in said(replace(COUNTS, **changes))


def test_what_is_as_it_should_be_is_not_remarked_on():
    assert "not 0.5" not in said() and "failed" not in said(replace(COUNTS, failed=0))


def test_the_paper_count_states_its_images_and_what_chance_gives():
    assert "12 of 18 names pass on n = 40 to 50 images each; coin tosses would make 0.1 pass." in said()
    assert "n = 50 images" in said(replace(COUNTS, paper=PaperCount(12, 18, 50, 50, 0.1)))
    assert "MedSAE" not in said(replace(COUNTS, paper=PaperCount(0, 0, 0, 0, 0.0)))


def test_what_the_engine_did_is_told_with_or_without_an_overlap():
    assert "80.0\u00a0% of them from the cache" in names.engine_sentence(DATA.naming)
    assert "210 s; one after the other, 302 s" in names.engine_sentence(DATA.naming)
    silent = replace(DATA.naming, usage=Usage(), overlap=None)
    assert names.engine_sentence(silent) == "0 requests, 0 prompt tokens, none of them from the cache."
