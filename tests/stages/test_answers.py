"""From needs and a ledger to the table of answers."""

from pathlib import Path

import pytest

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.ledger import Ledger, answers_schema
from medsae_ray.core.naming.plan import Addresses, Concept, Need
from medsae_ray.errors import ArtifactError
from medsae_ray.stages.answers import answer_table, asked_of

WHERE = Addresses("engine", "prompt", {"i1": "aa", "i2": "bb", "twin": "aa"})
BARE, DEFINED = Concept("edema"), Concept("edema", "white lungs")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    book = Ledger(Store(str(tmp_path)), answers_schema())
    for p, (image, concept) in enumerate([("i1", BARE), ("i1", DEFINED), ("i2", BARE), ("i2", Concept("other"))]):
        asked = {"address": WHERE.of(concept, image), "image_id": image, **concept._asdict()}
        book.append([asked | {"p_yes": p / 10, "mass": 1.0}])
    return book


def test_each_need_has_one_row_under_its_own_image(ledger: Ledger) -> None:
    needs = [Need(DEFINED, ["i1"]), Need(BARE, ["twin", "i2", "i1", "unreadable"]), Need(BARE, ["i2"])]
    table = answer_table(needs, WHERE, ledger.load())
    assert table.schema == answers_schema()
    rows = [(row["image_id"], row["definition"], row["p_yes"]) for row in table.to_pylist()]
    assert rows == [("i1", None, 0.0), ("i1", "white lungs", 0.1), ("i2", None, 0.2), ("twin", None, 0.0)]
    assert answer_table([], WHERE, ledger.load()).num_rows == 0


def test_a_name_of_absence_is_tested_by_asking_for_the_label() -> None:
    concepts = {1: Concept("no edema"), 2: Concept("edema"), 3: Concept("Finding"), 4: Concept("no mass", "clear")}
    asked = asked_of(concepts, ["edema", "No Finding"])
    assert asked.concept_of == {1: BARE, 2: BARE, 3: Concept("No Finding"), 4: concepts[4]}
    assert asked.turned == {1, 3} and asked_of(concepts, []) == (concepts, frozenset())
    assert asked_of({1: Concept("no edema")}, ["edema", "no edema"]).turned == set()


def test_a_need_without_an_answer_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(ArtifactError, match="no row at 1 address"):
        answer_table([Need(DEFINED, ["i2"])], WHERE, ledger.load())
