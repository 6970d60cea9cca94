from pathlib import Path

import pytest

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.judgements.log import Log
from medsae_ray.core.judgements.study import Study, drawn, keep, opened
from medsae_ray.errors import JudgementError
from tests.core.judgements.made import judgement

ATLAS = "atlas-0123456789ab"


def test_a_study_has_the_same_order_for_ever_and_another_for_each_reader() -> None:
    study = drawn("pilot", 7, ATLAS, range(100), 6)
    assert study.features == (77, 4, 71, 89, 7, 59), "a changed order would mix the sessions of a study"
    assert study.order("a") == study.order("a") != study.order("b")
    assert sorted(study.order("a")) == sorted(study.features)
    assert drawn("pilot", 8, ATLAS, range(100), 6).features != study.features


def test_a_reader_goes_on_where_the_log_ends(tmp_path: Path) -> None:
    root = Store(str(tmp_path))
    study, log = keep(root, drawn("pilot", 7, ATLAS, range(100), 6)), Log(root)
    first, second, *rest = study.order("r1")
    for number, other in enumerate(
        [{}, {"kind": "note", "value": "x", "feature": second}, {"study": None, "feature": second}]
    ):
        log.add(judgement(number, **{"feature": first, "study": "pilot", **other}))
    log.add(judgement(9, reader="r2", feature=second, study="pilot"))
    log.add(judgement(10, atlas="atlas-ffffffffffff", feature=second, study="pilot"))
    assert study.left("r1", Log(root).read().judgements) == [second, *rest]


def test_a_study_that_is_there_does_not_change(tmp_path: Path) -> None:
    root = Store(str(tmp_path))
    first = keep(root, drawn("pilot", 7, ATLAS, range(100), 6))
    assert keep(root, drawn("pilot", 8, ATLAS, range(100), 9)) == first == opened(root, "pilot")
    assert opened(root, "other") is None and isinstance(first, Study)
    assert Log(root).read() == ([], 0)


@pytest.mark.parametrize(
    ("name", "size", "field"), [("a b", 3, "name"), ("../x", 3, "name"), ("x", 0, "size"), ("x", 11, "size")]
)
def test_a_study_that_cannot_be_is_refused(name: str, size: int, field: str) -> None:
    with pytest.raises(JudgementError) as error:
        drawn(name, 1, ATLAS, range(10), size)
    assert error.value.field == field
