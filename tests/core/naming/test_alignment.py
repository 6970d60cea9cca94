"""Features that were planted along the embeddings of a text tower get their terms; directions that were not, none."""

from typing import Any

import numpy as np
import pytest
import torch

from medsae_ray.core.naming.alignment import Space, best_terms, directions, exceedance, vocabulary_names
from medsae_ray.core.naming.vocabulary import unit
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from tests.core.small_medclip import DIM, TERMS
from tests.support.usual import sae_config

PLANTED, STRANGE, DEAD = 20, 40, 2
CASES: list[dict[str, Any]] = [
    {"normalisation": "centre"},
    {"normalisation": "centre", "whiten": 1e-3},
    {"normalisation": "none"},
    {"normalisation": "l2"},
]


def planted(t_VD: np.ndarray, noise: float = 0.3, seed: int = 0, **settings: Any) -> tuple[SAE, np.ndarray]:
    """An SAE whose features move embeddings along the first terms' directions, then along mixtures of all terms'
    directions, and which of its features are alive."""
    rng = np.random.default_rng(seed)
    away_VD = unit(t_VD - t_VD.mean(axis=0))
    mixed_VD = unit(rng.normal(size=(STRANGE, len(t_VD))) @ away_VD)
    raw_FD = np.concatenate([away_VD[:PLANTED], mixed_VD, away_VD[-DEAD:]])
    raw_FD = unit(raw_FD + noise * unit(rng.normal(size=raw_FD.shape)))
    x_ND = 5 * rng.normal(size=DIM) + rng.normal(size=(400, DIM)) @ np.diag(np.geomspace(0.2, 3, DIM))
    kind = settings["normalisation"]
    normalisation = Normalisation.fit(torch.from_numpy(x_ND), settings.get("whiten"), kind)
    sae = build(sae_config(d_in=DIM, architecture="batch_topk", width=len(raw_FD), k=4, **settings), normalisation)
    rows = torch.from_numpy(raw_FD).float()
    with torch.no_grad():
        sae.W_dec.copy_(rows if sae.there is None else rows @ sae.there)
        sae.normalise_decoder()
    return sae, np.arange(len(raw_FD)) < PLANTED + STRANGE


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_a_direction_is_what_a_feature_adds_to_an_embedding(settings: dict[str, Any]) -> None:
    sae, _ = planted(np.random.default_rng(1).normal(size=(30, DIM)), **settings)
    sae = sae.double()
    with torch.no_grad():
        zero_D, each_FD = sae.decode(torch.zeros(1, sae.width).double()), sae.decode(torch.eye(sae.width).double())
    np.testing.assert_allclose(directions(sae), (each_FD - zero_D).numpy(), atol=1e-9)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_planted_terms_are_found_and_other_directions_abstain(
    term_embeddings: np.ndarray, settings: dict[str, Any]
) -> None:
    sae, alive_F = planted(term_embeddings, **settings)
    space = Space.of(sae, term_embeddings, "text")
    rows = vocabulary_names(space, TERMS, term_embeddings, alive_F, 5000, 0, 0.05).to_pylist()
    assert [row["feature"] for row in rows] == list(range(sae.width)) and {row["source"] for row in rows} == {
        "vocabulary"
    }
    assert [row["name"] for row in rows[:PLANTED]] == TERMS[:PLANTED]
    wrong = [row["name"] for row in rows[PLANTED:-DEAD] if row["status"] != "abstained"]
    assert len(wrong) <= 2  # of at most 22 names, at a false discovery rate of 5 %
    assert {row["evidence"] for row in rows[-DEAD:]} == {"active on no image"}
    assert all(row["alternatives"] == [] for row in rows if row["status"] == "abstained")
    assert "the nearest: left effusion" in rows[0]["evidence"] and len(rows[0]["alternatives"]) == 2


def test_without_a_mean_taken_from_texts_nothing_stands_out(term_embeddings: np.ndarray) -> None:
    far = unit(term_embeddings + 20 * unit(np.ones((1, DIM))))
    sae, alive_F = planted(far, normalisation="centre")
    named = {}
    for centring in ("none", "text"):
        space = Space.of(sae, far, centring)  # type: ignore[arg-type]
        names = vocabulary_names(space, TERMS, far, alive_F, 5000, 0, 0.05)["name"].to_pylist()
        named[centring] = sum(name == term for name, term in zip(names[:PLANTED], TERMS, strict=False))
    assert named["text"] == PLANTED and named["none"] < PLANTED / 2


def test_both_takes_the_mean_image_out_of_features(term_embeddings: np.ndarray) -> None:
    sae, _ = planted(term_embeddings, normalisation="none")
    mean_D = sae.mean.double().numpy()
    text, both = (Space.of(sae, term_embeddings, how).direction_FD @ mean_D for how in ("text", "both"))  # type: ignore[arg-type]
    assert np.abs(text).max() > 0.5 and np.abs(both).max() < 1e-6


def test_null_directions_are_spread_as_features_are(term_embeddings: np.ndarray) -> None:
    sae, alive_F = planted(term_embeddings, noise=0.0, normalisation="centre")
    space = Space.of(sae, term_embeddings, "text")
    null_KD = space.null(alive_F, 20_000, 3)
    np.testing.assert_allclose(np.linalg.norm(null_KD, axis=1), 1)
    along = np.linalg.svd(space.direction_FD[alive_F], full_matrices=False)[2]
    shares = [((space.direction_FD[alive_F] @ v) ** 2).mean() for v in along]
    assert np.corrcoef(shares, [((null_KD @ v) ** 2).mean() for v in along])[0, 1] > 0.98
    assert np.array_equal(null_KD, space.null(alive_F, 20_000, 3))


def test_p_counts_the_value_itself() -> None:
    assert exceedance(np.array([0.0, 2.0, 2.5, 9.0]), np.array([3.0, 1.0, 2.0])).tolist() == [1.0, 0.75, 0.5, 0.25]


def test_terms_are_ranked_by_their_cosine() -> None:
    null_KD = unit(np.random.default_rng(0).normal(size=(100, 3)))
    found = best_terms(
        np.array([[1.0, 0, 0]]), unit(np.array([[0, 1.0, 0], [1, 1, 0], [1, 0, 0.1], [-1, 0, 0]])), null_KD
    )
    assert found.term_FR.tolist() == [[2, 1, 0]] and found.cosine_FR[0, 1] == pytest.approx(np.sqrt(0.5))
