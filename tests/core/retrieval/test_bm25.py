import math

import pytest

from medsae_ray.core.retrieval.bm25 import Documents, tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Small LEFT pleural tubes.", ["small", "left", "pleural", "tube"]),
        ("No tubes in the lungs", ["no:tube", "no:lung"]),
        ("no tube or edema, large heart", ["no:tube", "no:edema", "larg", "heart"]),
        ("without tubes and a mass", ["no:tube", "mass"]),
        ("no, not; without", []),
        ("Rö-Herz: 3 Film", ["rö", "herz", "3", "film"]),
        ("-- !", []),
    ],
)
def test_words_are_compared_by_their_stems_and_in_any_case(text: str, words: list[str]) -> None:
    assert tokens(text) == words


@pytest.mark.parametrize(
    "forms",
    [
        "effusion effusions",
        "opacity opacities",
        "atelectasis atelectases",
        "metastasis metastases",
        "pneumothorax pneumothoraces",
        "mass masses",
        "patch patches",
        "consolidation consolidations consolidated",
        "enlarged enlargement enlarge",
        "fracture fractures fractured",
        "thickening thickened",
        "infection infections infected",
    ],
)
def test_all_forms_of_a_word_find_each_other(forms: str) -> None:
    words = forms.split()
    documents = Documents(dict(enumerate(words)))
    assert all(set(documents.scores(word)) == set(range(len(words))) for word in words)


def test_different_words_stay_apart() -> None:
    words = "mass pus basis pleura thorax effusion edema line lung lobe node nodule organ general heart hilum".split()  # noqa: SIM905
    assert len(set(tokens(" ".join(words)))) == len(words)


def test_scores_are_those_of_the_formula() -> None:
    documents = Documents({"a": "effusion effusion left", "b": "edema", "c": "left lung, heart and ribs"})
    rarity = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    long = 1 - 0.75 + 0.75 * 3 / (8 / 3)
    assert documents.scores("effusion") == {"a": pytest.approx(rarity * 2 * 2.2 / (2 + 1.2 * long))}
    assert set(documents.scores("left")) == {"a", "c"} and documents.scores("left")["a"] > documents.scores("left")["c"]
    assert documents.scores("the pacemaker") == {} and documents.scores("") == {}
    assert documents.scores("effusion effusion") == documents.scores("effusion")


def test_a_rare_word_is_worth_more_than_a_common_one() -> None:
    documents = Documents({1: "lung nodule", 2: "lung edema", 3: "lung mass"})
    found = documents.scores("lung nodule")
    assert max(found, key=lambda key: found[key]) == 1 and found[1] > 3 * found[2]


def test_a_negated_word_is_another_word() -> None:
    documents = Documents({"present": "pneumonia", "absent": "no pneumonia", "normal": "No Finding"})
    assert set(documents.scores("pneumonia")) == {"present"}
    assert set(documents.scores("no pneumonia")) == {"absent"} == set(documents.scores("without pneumonia"))
    assert set(documents.scores("no findings")) == {"normal"} and not documents.scores("finding")


def test_no_documents_have_no_scores() -> None:
    assert Documents({}).scores("edema") == {} and Documents({1: ""}).scores("edema") == {}
