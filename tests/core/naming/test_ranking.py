"""Requests, replies and shuffles of names ranked among five."""

import contextlib
import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.naming.label_tasks import GROUPS, label_tasks
from medsae_ray.core.naming.plan import normalised_name
from medsae_ray.core.naming.ranking import (
    LETTERS,
    Exhibit,
    Task,
    described,
    naming_writing,
    parse_phrase,
    parse_ranking,
    rank_of,
    ranking_writing,
    rivals,
    shuffled,
)
from medsae_ray.errors import NamingError

TASK = Task(("a", "b", "c", "d", "e"), 3)
SHOWN = [Exhibit(b"one", "sex: F", 1.5), Exhibit(b"two", "")]


@pytest.mark.parametrize("order", ["".join(p) for p in permutations(LETTERS)][::17])
def test_a_ranking_is_read_however_it_is_written(order: str) -> None:
    ways = [json.dumps({"ranking": list(order)}), json.dumps(list(order)), order, " > ".join(order), ",".join(order)]
    ways += [order.lower(), f"({order})", "\n".join(f"{n}. {letter}" for n, letter in enumerate(order, 1))]
    ways += [json.dumps({"ranking": order}), json.dumps({"ranking": ", ".join(order)})]
    assert {parse_ranking(way) for way in ways} == {order}
    assert rank_of(order, TASK) == order.index("D") + 1


@pytest.mark.parametrize(
    "reply",
    ["", "A", "ABCD", "ABCDD", "ABCDEF", "The best is A, then B, C, D, E", "[1, 2, 3, 4, 5]", "null", "{}",
     '{"ranking": 5}', '{"ranking": ["A", "B", "C", "D"]}',
     '{"ranking": ["A", "A", "C", "D", "E"]}', '{"ranking": [["A"]]}',
     '{"order": ["A", "B", "C", "D", "E"]}', '{"ranking": ["A", "B", "C", "D", "E"], "why": ""}', "A>B>C>D>E because",
     "[" * 5000, '{"ranking": ["A", "B"'],
)  # fmt: skip
def test_what_is_no_ranking_is_refused_and_not_guessed(reply: str) -> None:
    with pytest.raises(NamingError):
        parse_ranking(reply)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text('ABCDEabcde,> \n[]{}":.12345', max_size=40))
def test_any_text_is_a_whole_ranking_or_an_error(reply: str) -> None:
    with contextlib.suppress(NamingError):
        assert sorted(parse_ranking(reply)) == list(LETTERS)


def test_a_name_is_one_line_without_control_tokens() -> None:
    assert parse_phrase('{"name": " left\\neffusion. "}') == "left effusion"
    for reply in ('{"name": "  . "}', '{"name": "<end_of_turn>"}', '{"name": 3}', '{"name": "a", "b": 1}', "effusion",
                  json.dumps({"name": " ".join(["word"] * 21)})):  # fmt: skip
        with pytest.raises(NamingError):
            parse_phrase(reply)


def test_each_arm_shows_what_it_says() -> None:
    for arm, images, told in (("images", True, False), ("metadata", False, True), ("both", True, True)):
        parts = naming_writing(SHOWN, arm, 3).parts  # type: ignore[arg-type]
        assert ([part for part in parts if isinstance(part, bytes)] == [b"one", b"two"]) == images
        text = " ".join(part for part in parts if isinstance(part, str))
        assert ("sex: F" in text) == ("activation: 1.500" in text) == ("nothing is known" in text) == told
    judged = ranking_writing(SHOWN, "both", TASK, 3)
    assert "activation" not in str(judged.parts), "a judge is not told how strong an image is"
    assert str(judged.parts[-1]).endswith("A: a\nB: b\nC: c\nD: d\nE: e")
    assert (judged.temperature, judged.max_tokens) == (0.2, 50)


def test_metadata_is_one_line_of_what_is_known() -> None:
    assert described({"sex": "F", "age": None, "view": " ", "scanner": "A\nB"}) == "sex: F; scanner: A B"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.lists(st.sampled_from(("x", "X", "x.", *"yzuvw")), min_size=1, max_size=12))
def test_rivals_have_names_of_their_own(seed: int, names: list[str]) -> None:
    name_of = dict(enumerate(names))
    chosen = rivals(name_of, 0, seed)
    distinct = {normalised_name(name) for name in names} - {normalised_name(names[0])}
    assert (chosen is None) == (len(distinct) < 4)
    if chosen is not None:
        said = [normalised_name(name_of[other]) for other in [0, *chosen]]
        assert len(set(said)) == 5
        again = {key: name_of[key] for key in sorted(name_of, reverse=True)}
        assert rivals(again, 0, seed) == chosen, "the order of features does not matter"


def test_the_letters_are_shuffled_evenly_and_once_for_each_feature() -> None:
    tasks = [shuffled("true", list("wxyz"), feature, 0) for feature in range(3000)]
    assert all(task.names[task.truth] == "true" and sorted(task.names) == sorted(["true", *"wxyz"]) for task in tasks)
    counts = np.bincount([task.truth for task in tasks], minlength=5)
    assert ((counts - 600) ** 2 / 600).sum() < 18.5, "chi-squared of 4 at p = 0.001"
    assert shuffled("other", list("abcd"), 7, 0).truth == tasks[7].truth


def labels(seed: int, images: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((images, 7)) < 0.1, np.nan, rng.random((images, 7)) < 0.15).astype(float)


def test_labels_are_ranked_among_labels_that_are_absent() -> None:
    y, names = labels(0), [f"l{n}" for n in range(7)]
    order = np.random.default_rng(1).permutation(300)
    tasks = label_tasks(y, names, order, 0)
    assert len(tasks) > 14 and max(np.unique([t.label for t in tasks], return_counts=True)[1]) <= GROUPS
    for one in tasks:
        assert one.task.names[one.task.truth] == one.label and len(set(one.row_n.tolist())) == 5
        for name in one.task.names:
            assert (y[one.row_n, names.index(name)] == (name == one.label)).all()
    turned = label_tasks(y[:, ::-1], names[::-1], order, 0)
    assert [(t.label, t.row_n.tolist(), t.task) for t in turned] == [(t.label, t.row_n.tolist(), t.task) for t in tasks]


def test_without_labels_there_is_nothing_to_rank() -> None:
    assert label_tasks(np.empty((9, 0)), [], np.arange(9), 0) == []
    assert label_tasks(np.full((9, 6), np.nan), list("abcdef"), np.arange(9), 0) == []
    assert label_tasks(np.ones((9, 3)), list("abc"), np.arange(9), 0) == []
