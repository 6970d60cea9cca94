import numpy as np
import pytest

from medsae_ray.core.naming.vocabulary import CHEST, checked_terms, embed_terms, parse_terms, terms_hash
from medsae_ray.errors import RecipeError
from tests.core.small_medclip import DIM, TEMPLATES, TERMS, SmallMedclip


def test_a_file_has_a_term_on_each_line() -> None:
    assert parse_terms("# devices\n\n pacemaker \r\nchest   tube\n", "f") == ["pacemaker", "chest tube"]


@pytest.mark.parametrize(
    ("terms", "said"),
    [(["one"], "f: .* two terms or more, found 1"), (["a", "A"], "'A' is repeated"), (["a", " "], "' ' is empty")],
)
def test_terms_that_cannot_be_told_apart_are_refused(terms: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        checked_terms(terms, "f")


def test_the_hash_is_of_the_terms_and_their_order() -> None:
    assert terms_hash(["a", "b"]) == terms_hash(parse_terms("# x\na\n\nb", "f")) != terms_hash(["b", "a"])
    assert terms_hash(["a", "b c"]) != terms_hash(["a b", "c"])


def test_the_packaged_vocabulary_is_of_chest_radiographs() -> None:
    terms = parse_terms(CHEST.read_text(), CHEST.name)
    assert 150 <= len(terms) <= 300 and all(term.isascii() and len(term) < 50 for term in terms)
    assert {"pleural effusion", "pacemaker", "lateral view", "clavicles"} <= set(terms)


def test_a_term_is_the_mean_of_its_templates(medclip: SmallMedclip, term_embeddings: np.ndarray) -> None:
    texts = medclip.texts()
    alone = texts.encode(["left effusion"])[0] + texts.encode(["a film with left effusion"])[0]
    np.testing.assert_allclose(term_embeddings[0], alone / np.linalg.norm(alone), atol=1e-6)
    assert term_embeddings.shape == (len(TERMS), DIM)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_neither_batches_nor_padding_change_a_term(
    medclip: SmallMedclip, term_embeddings: np.ndarray, batch_size: int
) -> None:
    longest = ["a film with a left basal rib fracture a catheter a scar", *TERMS]
    found = embed_terms(medclip.texts(), longest, TEMPLATES, batch_size)
    np.testing.assert_allclose(found[1:], term_embeddings, atol=2e-6)
