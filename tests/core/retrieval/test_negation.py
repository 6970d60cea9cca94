"""What a query wants and excludes, or why it is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.retrieval.negation import QueryRefused, understood


@pytest.mark.parametrize(
    ("query", "wanted", "excluded"),
    [
        ("large left effusion", "large left effusion", ()),
        ("no pleural effusion", "", ("pleural effusion",)),
        ("No pleural effusion.", "", ("pleural effusion",)),
        ("without effusion", "", ("effusion",)),
        ("free of effusion", "", ("effusion",)),
        ("lungs free from opacities", "lungs", ("opacities",)),
        ("absence of support devices", "", ("support devices",)),
        ("in the absence of any edema", "", ("edema",)),
        ("cardiomegaly without effusion", "cardiomegaly", ("effusion",)),
        ("cardiomegaly with no effusion", "cardiomegaly", ("effusion",)),
        ("normal heart, no effusion", "normal heart", ("effusion",)),
        ("normal lungs and no devices", "normal lungs", ("devices",)),
        ("no effusion, large heart", "large heart", ("effusion",)),
        ("no effusion or edema, large heart", "large heart", ("effusion", "edema")),
        ("no effusion, edema or fracture", "", ("effusion", "edema", "fracture")),
        ("no effusion, edema, or fracture", "", ("effusion", "edema", "fracture")),
        ("neither effusion nor edema", "", ("effusion", "edema")),
        ("no effusion and no edema", "", ("effusion", "edema")),
        ("no effusion but cardiomegaly", "cardiomegaly", ("effusion",)),
        ("no evidence of pneumothorax", "", ("pneumothorax",)),
        ("without any signs of edema", "", ("edema",)),
        ("negative for fracture", "", ("fracture",)),
        ("effusion is absent", "", ("effusion",)),
        ("pneumothorax not seen", "", ("pneumothorax",)),
        ("effusion-free chest", "", ("effusion chest",)),
        ("not a fracture", "", ("fracture",)),
        ("opacity other than pneumonia", "opacity", ("pneumonia",)),
        ("isn't normal", "", ("normal",)),
        ("edema (no effusion)", "edema", ("effusion",)),
        ("no effusion (edema)", "edema", ("effusion",)),
        ("nodule", "nodule", ()),
        ("abnormal notch of a noble knot", "abnormal notch of a noble knot", ()),
    ],
)
def test_a_query_is_taken_apart(query: str, wanted: str, excluded: tuple[str, ...]) -> None:
    assert understood(query) == (wanted, excluded)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("not without effusion", "negates a negation"),
        ("no absence of edema", "negates a negation"),
        ("no", "negates nothing"),
        ("effusion without", "negates nothing"),
        ("no effusion and edema", "not clear"),
        ("without tubes and a mass", "not clear"),
        ("rule out pneumonia", "asks to rule something out"),
        ("cannot exclude pneumonia", "asks to rule something out"),
        ("no change in effusion", "earlier image"),
        ("no longer effusion", "earlier image"),
        ("not only edema but effusion", "negates nothing: write"),
        ("possible pneumonia", "uncertain"),
    ],
)
def test_what_may_mean_two_things_is_refused(query: str, why: str) -> None:
    with pytest.raises(QueryRefused, match=why):
        understood(query)


WORDS = st.sampled_from(["effusion", "edema", "heart", "large", "fracture"])


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=3), st.sampled_from(["no", "without", "free of", "absence of", "not"]),
       st.lists(WORDS, min_size=1, max_size=2))  # fmt: skip
def test_a_negated_phrase_is_never_wanted(before: list[str], negating: str, after: list[str]) -> None:
    wish = understood(f"{' '.join(before)}, {negating} {' '.join(after)}")
    assert wish == (" ".join(before), (" ".join(after),))
