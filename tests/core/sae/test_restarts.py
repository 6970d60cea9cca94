"""The best of several trainings, whole or resumed."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from medsae_ray.config import Sae
from medsae_ray.core.sae.checkpoint import sae_from_bytes, sae_to_bytes
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.restarts import Kept, Restarts

SETTINGS = Sae(width=16, k=2, epochs=4, batch_size=32, lr=0.01, seed=5).settings()
CONFIG = SAEConfig.from_dict(SETTINGS | {"d_in": 12})
ROWS = torch.randn(400, 12, generator=torch.Generator().manual_seed(0)) @ torch.randn(12, 12) + 1
TRAIN, HELDOUT = ROWS[:300], ROWS[300:]


def trained(starts: int = 3, resume: dict[str, Any] | None = None) -> tuple[Kept, list[int], list[dict[str, Any]]]:
    restarts, epochs, states = Restarts(CONFIG, starts, lambda sae, config: sae_to_bytes(sae, config, {})), [], []

    def report(entry: Any, state: Any) -> None:
        epochs.append(entry.epoch)
        states.append(state())

    return restarts.fit(TRAIN, HELDOUT, resume, report), epochs, states


def test_the_sae_of_least_held_out_fvu_is_kept() -> None:
    alone: dict[int, float] = {}
    for seed in (5, 6, 7):
        fit(replace(CONFIG, seed=seed), TRAIN, HELDOUT, on_end=lambda end, seed=seed: alone.update({seed: end.fvu}))  # type: ignore[misc]
    kept, epochs, _ = trained()
    assert len(set(alone.values())) == 3
    best = min(alone, key=lambda seed: alone[seed])
    assert kept.ending["fvu"] == alone[best]
    assert sae_from_bytes(kept.weights, kept.config).config.seed == best
    assert [entry["epoch"] for entry in kept.log] == [1, 2, 3, 4] and epochs == list(range(1, 13))


def test_whatever_checkpoint_it_goes_on_from_it_keeps_the_same() -> None:
    whole, _, states = trained()
    for state in states:
        again, _, _ = trained(resume=state)
        assert (again.weights, again.config, again.ending) == (whole.weights, whole.config, whole.ending)
        assert [entry["fvu"] for entry in again.log] == [entry["fvu"] for entry in whole.log]


def test_one_training_has_the_settings_that_it_had() -> None:
    assert "restarts" not in Sae().settings() and Sae(restarts=2).settings()["restarts"] == 2
    with pytest.raises(ValueError, match="restarts"):
        Sae(restarts=0)
