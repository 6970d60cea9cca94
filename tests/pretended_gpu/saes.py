"""SAEs on the pretended GPU: whole fits, resumed ones, two ranks, checkpoints, and the waits of a training step.

Collected by tests/test_pretended_gpu.py, in a process of its own.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from medsae_ray.core.sae.activations import EncodeWork
from medsae_ray.core.sae.checkpoint import sae_from_bytes, sae_to_bytes
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import EpochLog, fit
from medsae_ray.core.sae.metrics import reconstruction
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.training import State, Training
from medsae_ray.core.sae.training_table import EmbeddingTable
from tests.core.sae.planted import ALL, NORMALISED, WITH_AUXK, matryoshka_config, planted, row_topk_config
from tests.core.sae.test_activations import dense, encoded, part, trained, work
from tests.support.pretended_cuda import WAITS, OnCuda, held, pretended_cuda
from tests.support.pretended_ranks import Ranks, Wrapped

Make = Callable[..., SAEConfig]
DATA = planted(rows=300)
SHORT = {"epochs": 3, "batch_size": 100}
CLOSE = {"float32": 1e-4, "bfloat16": 1e-2}
"""How far losses and FVU may be from the CPU's, as a share: the GPU's branches sum in another order, and in bfloat16
round other factors."""


class Fitted(NamedTuple):
    sae: SAE
    logs: list[EpochLog]
    states: list[State]
    waits: Counter[str]
    """Of the whole fit, and below of its training steps."""
    step_waits: int


def fitted(config: SAEConfig, cuda: bool = True, train: Any = DATA.train_ND, resume: State | None = None) -> Fitted:
    logs: list[EpochLog] = []
    states: list[State] = []

    def note(log: EpochLog, state: Callable[[], State]) -> None:
        logs.append(log)
        states.append(state())

    arguments = {"resume": resume, "on_epoch": note}
    WAITS.clear()
    STEPS.clear()
    if not cuda:
        return Fitted(fit(config, train, DATA.heldout_ND, **arguments), logs, states, Counter(), 0)
    with pretended_cuda():
        sae = fit(config, train, DATA.heldout_ND, wrap=lambda sae: sae.to("cuda"), **arguments)
    return Fitted(sae, logs, states, Counter(WAITS), STEPS.total())


STEPS: Counter[str] = Counter()
"""The waits of training steps alone."""


@pytest.fixture(autouse=True)
def _watched_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    step = Training._step

    def watched(*args: Any) -> Any:
        before = Counter(WAITS)
        result = step(*args)
        STEPS.update(WAITS - before)
        return result

    monkeypatch.setattr(Training, "_step", watched)
    return


def figures(logs: list[EpochLog]) -> np.ndarray:
    return np.array([[log.loss, log.mse, log.sparsity, log.auxk, log.fvu, log.cosine, log.l0] for log in logs])


def weights(sae: SAE) -> dict[str, Tensor]:
    return {name: held(tensor).detach() for name, tensor in sae.state_dict().items()}


@pytest.mark.parametrize("precision", CLOSE)
@pytest.mark.parametrize("make", ALL)
def test_a_fit_equals_the_cpus_waits_as_stated_and_resumes_exactly(make: Make, precision: str) -> None:
    config = make(**SHORT, precision=precision)
    found, wanted = fitted(config), fitted(config, cuda=False)
    assert isinstance(found.sae.W_dec, OnCuda)
    np.testing.assert_allclose(figures(found.logs), figures(wanted.logs), rtol=CLOSE[precision])
    assert found.step_waits == 0, found.waits
    assert not any(isinstance(leaf, OnCuda) for leaf in tree_leaves(found.states))
    again = fitted(config, resume=found.states[0])
    assert len(again.logs) == 2
    for name, tensor in weights(found.sae).items():
        torch.testing.assert_close(weights(again.sae)[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(("make", "other"), NORMALISED[len(ALL) :])
def test_a_fit_with_another_normalisation_equals_the_cpus(make: Make, other: dict[str, Any]) -> None:
    config = make(**SHORT, **other)
    np.testing.assert_allclose(figures(fitted(config).logs), figures(fitted(config, cuda=False).logs), rtol=1e-4)


@pytest.mark.parametrize("make", WITH_AUXK)
def test_dead_features_are_revived_and_reset_on_the_gpu_as_on_the_cpu(make: Make) -> None:
    few = {"ks": [1, 1, 1]} if make().ks else {"k": 1}
    config = make(**SHORT, **few, init="random", resample=True, dead_after_epochs=1)
    found, wanted = fitted(config), fitted(config, cuda=False)
    assert max(log.auxk for log in found.logs) > 0 and found.logs[0].dead_share > 0
    np.testing.assert_allclose(figures(found.logs), figures(wanted.logs), rtol=1e-2)
    assert found.step_waits == 0


def test_a_precision_that_is_measured_and_the_best_epoch_are_kept() -> None:
    found = fitted(row_topk_config(**SHORT, precision="auto", patience=2))
    assert found.states[-1]["low"] in (None, "torch.bfloat16") and found.states[-1]["best"] is not None


def test_rows_of_a_file_come_batch_by_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", DATA.train_ND.numpy())
    config = row_topk_config(**SHORT)
    found, memory = fitted(config, train=EmbeddingTable.open(tmp_path / "x.npy")), fitted(config)
    for name, tensor in weights(memory.sae).items():
        assert torch.equal(weights(found.sae)[name], tensor), name
    # In memory the rows are moved once, and their order in each of three epochs; from a file nothing waits for a batch.
    assert found.waits.total() - memory.waits.total() <= -4


@pytest.mark.parametrize("make", ALL)
def test_two_ranks_train_what_one_trains(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", DATA.train_ND.numpy())
    config = make(**SHORT)

    def train(rank: int) -> tuple[dict[str, Tensor], list[EpochLog]]:
        logs: list[EpochLog] = []
        rows = EmbeddingTable.open(tmp_path / "x.npy") if make is row_topk_config else DATA.train_ND
        share = {"rank": rank, "world": 2, "wrap": Wrapped}
        sae = fit(config, rows, DATA.heldout_ND, **share, on_epoch=lambda log, _: logs.append(log))
        return weights(sae), logs

    (first, logs), (second, _) = Ranks(2).run(train, monkeypatch)
    assert all(torch.equal(first[name], second[name]) for name in first)
    np.testing.assert_allclose(figures(logs), figures(fitted(config, cuda=False).logs), rtol=1e-3)


@pytest.mark.parametrize("make", ALL)
def test_a_checkpoint_there_and_back_encodes_decodes_and_measures_the_same(make: Make) -> None:
    config, x_ND = make(), DATA.heldout_ND
    there = trained(make)
    with torch.no_grad():
        z_NM = there.encode(x_ND)
        wanted = there.decode(z_NM), reconstruction(there, x_ND).sums
    with pretended_cuda(), torch.no_grad():
        sae = there.to("cuda")
        back = sae_from_bytes(*sae_to_bytes(sae, config, {})).sae.to("cuda")
        code = back.encode(x_ND.to("cuda"))
        found = back.decode(code), reconstruction(back, x_ND).sums
        assert isinstance(code, OnCuda) and isinstance(found[0], OnCuda)
    torch.testing.assert_close(held(code), z_NM)
    torch.testing.assert_close(held(found[0]), wanted[0])
    torch.testing.assert_close(found[1], wanted[1])


def test_an_artifact_is_encoded_on_the_gpu_as_on_the_cpu(tmp_path: Path) -> None:
    made = work(tmp_path, trained(row_topk_config), row_topk_config(), [part(np.arange(50) % 5 > 0)])
    wanted = dense(encoded(made), 48)
    with pretended_cuda():
        found = encoded(EncodeWork(made.embeddings, made.sae, device="cuda"))
    np.testing.assert_allclose(dense(found, 48), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "threshold"])
def test_a_buffer_that_stays_on_the_cpu_fails(name: str) -> None:
    def forgets(sae: SAE) -> SAE:
        left = getattr(sae, name).expand(3) if name == "threshold" else sae.mean
        sae.to("cuda")
        sae._buffers[name] = left
        return sae

    with pytest.raises(RuntimeError, match=r"are on the CPU and others on cuda:0"), pretended_cuda():
        fit(matryoshka_config(**SHORT), DATA.train_ND, DATA.heldout_ND, wrap=forgets)


def test_a_collective_of_a_cpu_tensor_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"nccl: a tensor \[2\] is on the CPU"):
        Ranks(2).run(lambda rank: torch.distributed.all_reduce(torch.ones(2)), monkeypatch)


def test_a_number_that_a_step_reads_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = SAE.losses

    def reads(self: SAE, *args: Any) -> Any:
        found = loss(self, *args)
        assert found.total.item() > 0
        return found

    monkeypatch.setattr(SAE, "losses", reads)
    assert fitted(row_topk_config(**SHORT)).step_waits == 9
