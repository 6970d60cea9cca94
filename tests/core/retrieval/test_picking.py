"""A model's picks: what is read, what contradicts the query, and what no name or metadata says."""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.naming.engine import BATCH, Usage, Writing, Written, Wrote
from medsae_ray.core.retrieval.answer import QueryAnswer
from medsae_ray.core.retrieval.attributes import attributes, conditions
from medsae_ray.core.retrieval.negation import QueryRefused, understood
from medsae_ray.core.retrieval.picking import Entry, check_picks, entries, parse_picks
from medsae_ray.core.retrieval.query import Library
from medsae_ray.errors import NamingError
from tests.core.made import artifact
from tests.core.retrieval.test_query import artifacts

LISTED = [Entry("Pleural Effusion", "fluid in the left angle", (0, 3)), Entry("large heart", None, (1,)),
          Entry("no Edema", None, (2,))]  # fmt: skip


def reply(want: Any = (), exclude: Any = (), unmet: Any = ()) -> str:
    return json.dumps({"want": want, "exclude": exclude, "unmet": unmet})


def test_picks_are_numbers_of_the_list() -> None:
    assert parse_picks(reply([2, 1], [3], ["large"]), 3, 3) == ((1, 0), (2,), ("large",))
    assert parse_picks(reply(), 3, 3) == ((), (), ())
    for text in (
        reply([4]),
        reply([0]),
        reply([-1]),
        reply([1, 1]),
        reply([1], [1]),
        reply([1.0]),
        reply([True]),
        reply("1"),
        reply([1, 2], unmet="x"),
        reply(["1"]),
        "[1]",
        "1, 2",
        '{"want": [1]}',
        reply([1, 2, 3], [], [1]),
    ):
        with pytest.raises(NamingError):
            parse_picks(text, 3, 3)
    with pytest.raises(NamingError, match="wants 2 concepts, 3"):
        parse_picks(reply([1, 2]), 3, 3, exactly=True)
    with pytest.raises(NamingError, match="wants 3 concepts, 2"):
        parse_picks(reply([1, 2, 3]), 3, 2)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=50) | st.recursive(st.integers() | st.text(max_size=3) | st.none(), st.lists).map(
    lambda value: json.dumps({"want": value, "exclude": [], "unmet": []})))  # fmt: skip
def test_any_reply_is_picks_of_the_list_or_an_error(text: str) -> None:
    with contextlib.suppress(NamingError):
        picks = parse_picks(text, 5, 3)
        assert set(picks.want) <= set(range(5)) and len(picks.want) <= 3


@pytest.mark.parametrize(
    ("query", "picked", "why"),
    [
        ("no effusion", reply([1]), "nothing on the list stands for"),
        ("no pleural effusion", reply([1], [2]), "wants 'Pleural Effusion', which the query excludes"),
        ("no heart", reply([2]), "nothing on the list"),
        ("effusion", reply([1], [2]), "the query excludes nothing"),
        ("no effusion", reply([2], [1]), "the query only excludes"),
        ("large heart, no effusion", reply([2], [1]), None),
        ("no effusion", reply([], [1]), None),
        ("no edema", reply([3]), None),
        ("effusion", reply(), None),
    ],
)
def test_a_pick_that_contradicts_the_query_is_refused(query: str, picked: str, why: str | None) -> None:
    with pytest.raises(QueryRefused, match=why) if why else contextlib.nullcontext():
        check_picks(parse_picks(picked, 3, 3), understood(query), LISTED)


def test_attributes_are_said_by_names_or_metadata_or_refused() -> None:
    values = {"PatientSex": {"F", "M"}, "view": {"PA", "AP"}, "ward": {"left"}}
    assert [a.kind for a in attributes("left upper effusion of a woman, AP")] == ["side", "place", "sex", "plane"]
    assert conditions("left effusion", ["Pleural Effusion fluid in the left angle"], values) == []
    assert conditions("effusion in women, AP view", ["effusion"], values) == [("PatientSex", "F"), ("view", "AP")]
    for query, why in (
        ("left effusion", r"'left' \(side\)"),
        ("lateral effusion", "no column of metadata, says 'lateral'"),
        ("upper effusion", "place"),
        ("female heart", "sex"),
    ):
        with pytest.raises(QueryRefused, match=why):
            conditions(query, ["effusion", "heart"], {} if "female" in query else values)


def test_names_are_listed_once_verified_ones_first() -> None:
    rows = [
        ("edema", 9, "rejected"),
        ("Mass", 5, "verified"),
        ("mass.", 7, None),
        (None, 9, None),
        ("tube", 0, "verified"),
    ]
    made = [
        {"feature": f, "name": n, "n_active": a, "verdict": v, "definition": None} for f, (n, a, v) in enumerate(rows)
    ]
    assert entries(made) == [Entry("Mass", None, (1, 2)), Entry("edema", None, (0,), rejected=True)]


class Model:
    """Picks what `answer` says of a query, and the name that is asked for literally."""

    identity = "model"

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self.answer, self.asked = answer, list[str]()

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        query = str(writing.parts[1]).removeprefix("Query: ")
        self.asked.append(query)
        names = re.findall(r"^(\d+)\. ([^-\n]+?)(?: - .*)?$", str(writing.parts[0]), flags=re.MULTILINE)
        literal = {name: reply([int(number)]) for number, name in names}
        said = self.answer(query)
        return Wrote(Written(said if said is not None else literal.get(query, reply()), "stop"), Usage())

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not needed")


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Artifact]:
    found = artifacts(tmp_path)
    table = found["manifest"].table().append_column("m_sex", pa.array(["F", "F", "M", "F", "M", "F"]))
    return found | {"manifest": artifact(tmp_path / "again", "manifest", [table])}


def ask(stored: dict[str, Artifact], said: dict[str, str], query: str, **how: Any) -> QueryAnswer:
    return asyncio.run(Library(stored).ask_model(Model(said.get), query, **how))


def images(answer: QueryAnswer) -> list[str]:
    return [row["image_id"] for row in answer["images"]]


def test_picked_features_find_images_without_what_is_excluded(stored: dict[str, Artifact]) -> None:
    said = {"fluid, no heart": reply([1], [2]), "fluid in men": reply([1], unmet=["men"]), "no heart": reply([], [2])}
    answer = ask(stored, said, "fluid, no heart")
    assert answer["way"] == "model" and answer["model"] == "model" and answer["refused"] is None
    assert [row["feature"] for row in answer["features"]] == [0] and answer["excluded"][0]["name"] == "heart"
    assert images(answer) == ["i00000", "i00002"], "images 1 and 3 have the heart's feature"
    assert images(ask(stored, said, "fluid in men")) == ["i00002"]
    assert ask(stored, said, "fluid in men")["conditions"] == {"sex": "M"}
    only = ask(stored, said, "no heart")
    assert only["features"] == [] and sorted(images(only)) == ["i00000", "i00002", "i00005"]
    assert ask(stored, {}, "scoliosis")["features"] == [] == ask(stored, {}, "scoliosis")["images"]


def test_what_is_refused_has_no_images(stored: dict[str, Artifact]) -> None:
    said = {"left fluid": reply([1], unmet=["left"]), "outside": reply([9]), "no fluid": reply([2])}
    for query, why in (
        ("left fluid", "'left'"),
        ("outside", "3 attempts: 'want' has 9"),
        ("no fluid", "cannot be excluded"),
        ("not without fluid", "negates a negation"),
    ):
        answer = ask(stored, said, query)
        assert why in str(answer["refused"]) and answer["images"] == [] == answer["features"]


def test_a_pick_with_a_rejected_name_excludes_nothing(stored: dict[str, Artifact], tmp_path: Path) -> None:
    table = stored["atlas"].table()
    verdicts = pa.array(["verified", "rejected", "verified", "verified"])
    table = table.set_column(table.schema.get_field_index("verdict"), "verdict", verdicts)
    doubted = stored | {"atlas": artifact(tmp_path / "doubted", "atlas", [table])}
    heart = next(place for place, e in enumerate(Library(doubted).picker.listed, 1) if e.name == "heart")
    tube = next(place for place, e in enumerate(Library(doubted).picker.listed, 1) if e.name == "tube")
    said = {"fluid, no heart": reply([1], [heart]), "fluid, no tube, no heart": reply([1], [heart, tube]),
            "no tube": reply([], [tube, heart])}  # fmt: skip
    for query in ("fluid, no heart", "fluid, no tube, no heart"):
        assert "rejected the name 'heart'" in str(ask(doubted, said, query)["refused"])
    assert ask(doubted, said, "no tube")["refused"] is None, "one of its picks is not rejected"


def test_a_model_that_does_not_find_a_name_asked_for_is_not_used(stored: dict[str, Artifact]) -> None:
    library, guessing = Library(stored), Model(lambda query: reply([1]))
    for _ in range(2):
        answer = asyncio.run(library.ask_model(guessing, "anything"))
        assert "asked for literally" in str(answer["refused"]) and answer["images"] == []
    assert len(guessing.asked) == 3, "it is tried once"


def test_sails_order_is_the_cosine_with_five_images(stored: dict[str, Artifact]) -> None:
    library, said = Library(stored), {"both": reply([1, 2])}
    answer = asyncio.run(library.ask_model(Model(said.get), "both", ranking="cosine"))
    x_NF = library.shelf.x_NF.toarray() * library.shelf.max_F
    naming = library.shelf.split_N == "naming"
    print_J = library.shelf.fingerprint([0, 1])
    for place, feature in enumerate((0, 1)):
        own = x_NF[naming & (x_NF[:, feature] > 0), feature]
        assert print_J[place] == pytest.approx(own.mean() if len(own) else 0)
    for row in answer["images"]:
        x_J = x_NF[int(row["image_id"][1:]), :2]
        assert row["score"] == pytest.approx(x_J @ print_J / np.linalg.norm(x_J) / np.linalg.norm(print_J))


def test_exactly_three_are_asked_for_as_in_sail(stored: dict[str, Artifact]) -> None:
    said = {"three": reply([1, 2, 3]), "two": reply([1, 2])}
    assert len(ask(stored, said, "three", exactly=True)["features"]) == 3
    assert "wants 2 concepts, 3 are asked for" in str(ask(stored, said, "two", exactly=True)["refused"])
