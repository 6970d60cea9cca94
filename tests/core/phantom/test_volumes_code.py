"""The code that the encoder of slices is trained to give."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.core.phantom.volumes.code import STATIONS, Lengths, code, directions, stations
from medsae_ray.core.phantom.volumes.slices import TARGETS

LENGTHS = Lengths(organ=0.5, station=7.0, plane=3.0, modality=4.0, person=0.25)
D = 128


def slices(group_O: np.ndarray, seed: int) -> torch.Tensor:
    """Slices in which the organs of a group are mostly seen together: y_NK."""
    rng = np.random.default_rng(seed)
    shown_NG = rng.random((2000, STATIONS)) < 0.4
    y_NO = shown_NG[:, group_O] & (rng.random((2000, len(group_O))) < 0.9)
    return torch.from_numpy(np.hstack([y_NO, rng.random((2000, len(TARGETS) - len(group_O))) < 0.5]).astype(np.float32))


@given(st.permutations(list(range(len(ORGANS)))), st.integers(0, 9))
def test_organs_that_are_seen_together_are_a_station(order: list[int], seed: int) -> None:
    group_O = np.array(order) % STATIONS
    station_O = stations(slices(group_O, seed))
    assert len(set(zip(group_O, station_O, strict=True))) == STATIONS == len(set(station_O))


def test_a_slice_of_a_whole_station_has_its_length_and_the_organs_own() -> None:
    station_O = np.arange(len(ORGANS)) % STATIONS
    code_KD = code(station_O, LENGTHS, D)
    whole_D = code_KD[: len(ORGANS)][station_O == 3].sum(0)
    along_D = directions(D) @ whole_D
    members = (station_O == 3).sum()
    assert abs(along_D[len(TARGETS) + 3].item() - 7) < 1e-4
    assert abs(whole_D.norm().item() - np.sqrt(49 + members * 0.25)) < 1e-4
    planes_KD = code_KD[len(ORGANS) :]
    np.testing.assert_allclose((planes_KD @ planes_KD.T).numpy(), np.diag([9, 9, 9, 16, 0.0625, 0.0625]), atol=1e-4)
