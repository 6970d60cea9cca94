import numpy as np
import pytest

from medsae_ray.core.naming.vocabulary import embed_terms
from tests.core.small_medclip import TEMPLATES, TERMS, SmallMedclip, small_medclip


@pytest.fixture(scope="session")
def medclip(tmp_path_factory: pytest.TempPathFactory) -> SmallMedclip:
    return small_medclip(tmp_path_factory.mktemp("small-medclip"))


@pytest.fixture(scope="session")
def term_embeddings(medclip: SmallMedclip) -> np.ndarray:
    return embed_terms(medclip.texts(), TERMS, TEMPLATES)
