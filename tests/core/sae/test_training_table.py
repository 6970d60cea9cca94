import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.sae.fit import EpochLog, fit
from medsae_ray.core.sae.training_table import EmbeddingTable, write_table
from medsae_ray.errors import ArtifactError, DatasetError
from tests.core.sae.planted import ALL, planted, topk_config

DATA = planted(rows=230)
CPU = torch.device("cpu")


def in_file(path: Path, x_ND: torch.Tensor, pieces: int = 4) -> EmbeddingTable:
    write_table(path, np.array_split(x_ND.numpy(), pieces), x_ND.shape[1])
    return EmbeddingTable.open(path)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), d_in=st.integers(1, 9), pieces=st.integers(1, 5), draw=st.data())
def test_a_file_gives_the_rows_that_memory_gives(rows, d_in, pieces, draw, tmp_path_factory):
    x_ND = torch.randn(rows, d_in)
    table = in_file(tmp_path_factory.mktemp("table") / "x.npy", x_ND, pieces)
    index_B = torch.tensor(draw.draw(st.lists(st.integers(0, rows - 1), max_size=60)), dtype=torch.int64)
    assert torch.equal(table.rows(index_B, CPU), x_ND[index_B])
    assert torch.equal(table.x_ND, x_ND)


def trained(config, train, heldout):
    logs: list[EpochLog] = []
    weights = fit(config, train, heldout, on_epoch=lambda log, _: logs.append(log)).state_dict()
    return weights, [log[:-1] for log in logs]


CONFIGS = [make(epochs=2, batch_size=46) for make in ALL]
CONFIGS += [topk_config(epochs=2, batch_size=46, **other) for other in ({"init": "data"}, {"whiten": 1e-3})]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.architecture}-{c.selection}-{c.init}-{c.whiten}")
def test_training_from_a_file_gives_the_same_sae_to_the_last_bit(config, tmp_path):
    tables = [in_file(tmp_path / name, x_ND) for name, x_ND in (("t", DATA.train_ND), ("h", DATA.heldout_ND))]
    (weights, logs), (wanted, wanted_logs) = trained(config, *tables), trained(config, DATA.train_ND, DATA.heldout_ND)
    assert logs == wanted_logs
    for name, tensor in wanted.items():
        assert torch.equal(weights[name], tensor), name


def test_half_precision_stays_half_until_a_batch_is_drawn(tmp_path):
    half_ND, heldout_ND = DATA.train_ND.half(), DATA.heldout_ND.half()
    np.save(tmp_path / "x.npy", half_ND.numpy())
    config = topk_config(epochs=2)
    found = [
        trained(config, t, heldout_ND) for t in (half_ND, EmbeddingTable.open(tmp_path / "x.npy"), half_ND.float())
    ]
    assert all(torch.equal(weights["W_enc"], found[0][0]["W_enc"]) for weights, _ in found)
    assert EmbeddingTable.of(half_ND).on(CPU).x_ND is half_ND


def test_rows_of_a_file_that_are_not_finite_are_named(tmp_path):
    bad_ND = DATA.train_ND.clone()
    bad_ND[[7, 100], 3] = torch.inf
    with pytest.raises(DatasetError, match=r"2 of 230 training .*first: row 7\)"):
        fit(topk_config(), in_file(tmp_path / "x.npy", bad_ND), DATA.heldout_ND)


def test_a_file_that_holds_no_table_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    in_file(path, DATA.train_ND)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="not a whole"):
        EmbeddingTable.open(path)
    path.write_bytes(b"")
    with pytest.raises(ArtifactError, match="not a whole"):
        EmbeddingTable.open(path)
    for wrong in (np.zeros(3, np.float32), np.zeros((3, 3)), np.zeros((3, 3), object)):
        np.save(path, wrong)
        with pytest.raises(ArtifactError, match=r"rows x D|not a whole"):
            EmbeddingTable.open(path)


def test_a_table_whose_writing_fails_leaves_nothing(tmp_path):
    def blocks():
        yield np.zeros((2, 3), np.float32)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_table(tmp_path / "x.npy", blocks(), 3)
    assert not list(tmp_path.iterdir())


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from tests.support.usual import sae_config
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.training_table import EmbeddingTable, write_table

ROWS, D = 2_000_000, 64
path = Path(sys.argv[1])
rng = np.random.default_rng(0)
write_table(path, (rng.standard_normal((ROWS // 100, D), dtype=np.float32) for _ in range(100)), D)
config = sae_config(architecture="topk", d_in=D, width=64, k=4, epochs=1, batch_size=8192)
small = torch.randn(200, D)
fit(sae_config(**config.to_dict() | {"batch_size": 64}), small, small)  # threads and imports come before the limit


def status(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1]) * 1024


limit = status("VmData") + ROWS * D * 4 // 2
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
table = EmbeddingTable.open(path)
fit(config, table, table)
try:
    fit(config, torch.from_numpy(np.load(path)), small)
except (MemoryError, RuntimeError):
    print("trained from the file, but not from memory")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's")
def test_a_table_of_twice_the_allowed_memory_is_trained_on(tmp_path):
    """512 MB of rows where 256 MB of memory may be taken; pages of a file do not count, as the kernel can drop them."""
    call = [sys.executable, "-c", LIMITED, str(tmp_path / "x.npy")]
    found = subprocess.run(call, capture_output=True, text=True)
    assert found.stdout == "trained from the file, but not from memory\n", found.stderr
