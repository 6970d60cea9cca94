"""What makes a GPU wait, as far as a machine without one can show it."""

import threading

import pytest
import torch

from medsae_ray.core.sae import model, sail, select
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.batch_topk import BatchTopK
from medsae_ray.core.sae.matmul import uses_memory
from medsae_ray.core.sae.matryoshka import Matryoshka
from medsae_ray.core.sae.sail import Sail
from medsae_ray.core.sae.training_table import EmbeddingTable, ahead
from tests.core.sae.planted import matryoshka_config, normalisation, per_level_config, sail_config, topk_config

CPU = torch.device("cpu")


@pytest.fixture
def on_a_gpu(monkeypatch):
    monkeypatch.setattr(select, "fixed_lengths", lambda device: True)


@pytest.mark.parametrize(
    "config",
    [sail_config(), matryoshka_config(), per_level_config()],
    ids=["sail", "shared", "per_level"],
)
def test_no_length_of_a_selection_depends_on_values_and_nothing_is_uploaded(config, on_a_gpu, monkeypatch):
    """Tensors of the device meta have a shape and no values, so what depends on values cannot be computed."""

    def uploaded(*numbers, **options):
        raise AssertionError("numbers of the CPU are sent to the device in every step")

    sae = build(config, normalisation()).to("meta")
    assert isinstance(sae, BatchTopK)
    monkeypatch.setattr(torch, "tensor", uploaded)
    monkeypatch.setattr(torch.Tensor, "new_tensor", uploaded)
    with torch.no_grad():
        h_BM = torch.empty(16, config.width, device="meta")
        pairs, _ = sae.top(h_BM, 2)
        assert len(pairs.h_A) == 32
        if isinstance(sae, Matryoshka):
            sae.support(h_BM)


def test_the_edges_of_levels_move_with_the_module_and_are_no_part_of_its_state():
    sae = build(matryoshka_config(), normalisation())
    assert "edges" not in sae.state_dict() and sae.to("meta").edges.device.type == "meta"


def stepped(sae: Sail, x_BD: torch.Tensor):
    losses = sae(x_BD)
    losses.total.backward()
    return [*losses], {name: value.grad for name, value in sae.named_parameters()}


def test_entries_that_stay_as_zeros_change_neither_losses_nor_gradients(monkeypatch):
    """As on a GPU whose rank has entries that are among its own largest, and not among those of all ranks."""
    higher = sail.smallest_kept
    monkeypatch.setattr(sail, "smallest_kept", lambda values_A, n, *more, **how: higher(values_A, n // 2, *more, **how))
    x_BD = torch.randn(16, sail_config().d_in, generator=torch.Generator().manual_seed(0))
    wanted, wanted_gradients = stepped(build(sail_config(), normalisation()), x_BD)
    for module in (sail, select):
        monkeypatch.setattr(module, "fixed_lengths", lambda device: True)
    sae = build(sail_config(), normalisation())
    pairs, _ = sae.top(torch.randn(16, sail_config().width), 2)
    assert len(pairs.h_A) == 32 and int((pairs.h_A == 0).sum()) == 16
    found, gradients = stepped(sae, x_BD)
    for value, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, other)
    for name, gradient in wanted_gradients.items():
        torch.testing.assert_close(gradients[name], gradient)


def test_a_product_that_uses_no_memory_keeps_none(monkeypatch):
    sae, x_BD = build(topk_config(), normalisation()), torch.randn(16, 32)
    sae.low = torch.bfloat16
    with torch.no_grad():
        wanted = sae._h(x_BD).clone()
        assert sae.scratch is not None
        monkeypatch.setattr(model, "uses_memory", lambda device, low: False)
        torch.testing.assert_close(sae._h(x_BD), wanted)
    assert sae.scratch is None
    assert not uses_memory(torch.device("cuda"), torch.bfloat16) and uses_memory(torch.device("cuda"), None)


def test_the_next_batch_is_read_while_the_last_is_used():
    read, reads = threading.Event(), list[int]()

    def reading(item: int) -> int:
        reads.append(item)
        if item == 1:
            read.set()
        return 10 * item

    batches = ahead(reading, range(4))
    assert next(batches) == 0 and read.wait(10)  # before it is asked for
    assert [*batches] == [10, 20, 30] and reads == [0, 1, 2, 3]
    assert [*ahead(reading, [])] == []


def test_an_error_of_reading_ahead_comes_where_its_batch_is_wanted():
    batches = ahead(lambda item: 1 // item, [1, 0])
    assert next(batches) == 1
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_a_rank_moves_its_own_held_out_rows_alone():
    x_ND = torch.arange(14.0).reshape(7, 2)
    moved = EmbeddingTable.of(x_ND).share(1, 3, torch.device("meta"))
    assert moved.shape == (2, 2) and moved.device.type == "meta"
    assert torch.equal(EmbeddingTable.of(x_ND).share(1, 3, CPU), x_ND[[1, 4]])
