"""What all engines share: reading yes and no out of tokens, adding up costs, naming a model."""

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.naming.engine import Clock, Usage, model_identity, spelling, total, yes_no

WORDS = ["yes", "Yes", " yes", "YES", "\u2581Yes", "\u0120no", "no", "No", " NO"]
OTHERS = ["maybe", "yesterday", "none", "", "y", "n o"]


def test_every_spelling_of_a_word_counts_and_nothing_else() -> None:
    assert {spelling(word) for word in WORDS[:5]} == {"yes"}
    assert {spelling(word) for word in WORDS[5:]} == {"no"}
    assert {spelling(word) for word in OTHERS} == {None}


@given(st.dictionaries(st.sampled_from(WORDS + OTHERS), st.floats(1e-6, 1.0), min_size=1))
def test_p_yes_and_mass_are_the_sums_over_spellings(weights: dict[str, float]) -> None:
    whole = sum(weights.values())
    answer = yes_no((token, math.log(weight / whole)) for token, weight in weights.items())
    yes, no = (sum(w for t, w in weights.items() if spelling(t) == word) / whole for word in ("yes", "no"))
    assert answer.mass == pytest.approx(yes + no)
    assert answer.p_yes == pytest.approx(yes / (yes + no)) if yes + no else math.isnan(answer.p_yes)


def test_a_token_that_cannot_occur_adds_nothing() -> None:
    assert yes_no([("yes", -0.1), ("no", -math.inf)]).p_yes == 1.0


def test_usages_add_up_field_by_field() -> None:
    assert total([Usage(1, 100, 64, 1, 0.5), Usage(2, 50, 0, 2, 0.25)]) == Usage(3, 150, 64, 3, 0.75)
    assert total([]) == Usage()


def test_the_seconds_of_overlapping_work_add_up_to_the_time_that_passed() -> None:
    clock, start = Clock(), time.perf_counter()
    with clock.timed() as first:
        time.sleep(0.02)
        with clock.timed() as second:
            time.sleep(0.02)
        time.sleep(0.02)
    passed = time.perf_counter() - start
    assert first[0] + second[0] == pytest.approx(passed, abs=0.005)
    assert first[0] > second[0] > 0.005


def test_a_folder_is_named_by_its_contents_and_not_by_where_it_lies(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "tiny").mkdir(parents=True)
        (tmp_path / place / "tiny" / "config.json").write_text("{}")
    here, there = (str(tmp_path / place / "tiny") for place in ("here", "there"))
    assert model_identity(here) == model_identity(there)
    assert model_identity(here).startswith("tiny-")
    (tmp_path / "there" / "tiny" / "config.json").write_text("{ }")
    assert model_identity(here) != model_identity(there)


def test_an_id_is_named_by_its_commit_where_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert model_identity("who/model", commit) == f"who/model@{commit}"
    assert model_identity("who/no-such-model", "v1") == "who/no-such-model@v1"
    assert model_identity("who/no-such-model") == "who/no-such-model@main"
