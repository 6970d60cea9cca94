import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.judgements.record import KINDS, VOTES, Judgement, from_line
from medsae_ray.errors import JudgementError, one_line
from tests.core.judgements.made import judgement

texts = st.text(min_size=1, max_size=60).filter(one_line)


@st.composite
def judgements(draw: st.DrawFn) -> Judgement:
    kind = draw(st.sampled_from(KINDS))
    value = draw(st.sampled_from(VOTES)) if kind == "vote" else None if kind == "not_a_finding" else draw(texts)
    reason, name, study = draw(st.none() | texts), draw(st.none() | st.text()), draw(st.sampled_from([None, "pilot"]))
    told = {"kind": kind, "value": value, "reason": reason, "reader": draw(texts), "name": name, "study": study}
    return judgement(draw(st.integers(0, 10**6)), **told, blind=draw(st.booleans()))


@given(judgements())
def test_a_line_is_one_line_and_comes_back_as_it_was(one: Judgement) -> None:
    line = one.line()
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and line.isascii()
    assert from_line(line) == one


@given(judgements(), st.data())
def test_a_part_of_a_line_is_never_taken_for_a_whole_one(one: Judgement, data: st.DataObject) -> None:
    line = one.line().rstrip(b"\n")
    with pytest.raises(JudgementError):
        from_line(line[: data.draw(st.integers(0, len(line) - 1))])


@given(judgements(), st.data())
def test_a_line_that_was_changed_is_never_read_as_another(one: Judgement, data: st.DataObject) -> None:
    line = bytearray(one.line().rstrip(b"\n"))
    line[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(JudgementError):
        assert from_line(bytes(line)) == one  # another spelling of the same, as of the digits of \u00e9


@pytest.mark.parametrize(
    ("other", "field"),
    [({"kind": "vote", "value": "yes"}, "value"), ({"value": None}, "value"), ({"kind": "praise"}, "kind"),
     ({"kind": "rename", "value": " \n"}, "value"), ({"kind": "rename", "value": "x" * 121}, "value"),
     ({"kind": "not_a_finding", "value": "agree"}, "value"), ({"reader": ""}, "reader"),
     ({"reader": "x" * 61}, "reader"),
     ({"reason": "\u202e"}, "reason"), ({"key": "short"}, "key"), ({"key": "../../etc/passwd"}, "key"),
     ({"key": "trailing-newline\n"}, "key"), ({"study": "a b"}, "study"), ({"study": ""}, "study"),
     ({"feature": -1}, "feature"), ({"at": "2026-11-29T12:00:00"}, "at"), ({"at": "now"}, "at")],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_with_its_field(other: dict[str, Any], field: str) -> None:
    with pytest.raises(JudgementError) as error:
        judgement(**other)
    assert error.value.field == field


def test_texts_become_one_line() -> None:
    one = judgement(kind="note", value="two\nlines\u2028and\ttabs", reader=" A  B ", reason="a\x00b")
    assert (one.value, one.reader, one.reason) == ("two lines and tabs", "A B", "a b")


def test_the_time_is_no_part_of_what_is_said() -> None:
    one = judgement(1)
    assert one.same_as(replace(one, at="2027-01-01T00:00:00+01:00")) and not one.same_as(replace(one, value="unsure"))
