from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.layout import embedding_matrix
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.activations import EncodeWork
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.checkpoint import sae_to_bytes
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.metrics import reconstruction
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from tests.core.sae.planted import CENTRED, planted, stir

Make = Callable[[], SAEConfig]
N, DIM = 120, 32
X_ND = planted(rows=N).train_ND
RUN = {"start": "", "end": ""}


def trained(make: Make) -> SAE:
    """An SAE of which about half of the features are active."""
    return stir(build(make(), Normalisation.fit(X_ND))).float().eval()


def part(ok_N: np.ndarray, first: int = 0) -> pa.Table:
    rows = range(first, first + len(ok_N))
    x = [X_ND[row].tolist() if ok else None for row, ok in zip(rows, ok_N, strict=True)]
    columns = [[f"i{row}" for row in rows], x, ok_N.tolist(), [None if ok else "empty" for ok in ok_N]]
    return pa.table(columns, schema=schema.embeddings(DIM))


def embeddings(root: Path, parts: list[pa.Table]) -> Artifact:
    draft = Draft(Store(str(root)), "embeddings", 1, {"parts": len(parts)}, {})
    writer = draft.writer(schema.embeddings(DIM))
    return draft.commit([writer.write(s, p, p.num_rows) for s, p in enumerate(parts)], {}, RUN)


def sae_artifact(root: Path, sae: SAE, config: SAEConfig) -> Artifact:
    draft = Draft(Store(str(root)), "sae", 1, {}, {})
    weights, document = sae_to_bytes(sae, config, {})
    files = [draft.write_file("weights", ".safetensors", weights), draft.write_file("config", ".json", document)]
    return draft.commit(files, {}, RUN)


def work(root: Path, sae: SAE, config: SAEConfig, parts: list[pa.Table], batch_size: int = 1024) -> EncodeWork:
    return EncodeWork(embeddings(root, parts), sae_artifact(root, sae, config), batch_size=batch_size)


def encoded(work: EncodeWork) -> pa.Table:
    model = work.load()
    return pa.concat_tables(work.compute(model, work.prepare(shard)) for shard in work.rows)


def dense(table: pa.Table, width: int) -> np.ndarray:
    z_NM = np.zeros((table.num_rows, width), np.float32)
    for row, entry in enumerate(table.to_pylist()):
        z_NM[row, entry["feature"] or []] = entry["value"] or []
    return z_NM


@pytest.mark.parametrize("make", CENTRED)
@pytest.mark.parametrize("batch_size", [7, 1024])
def test_an_artifact_is_encoded_as_the_sae_encodes(make: Make, batch_size: int, tmp_path: Path) -> None:
    sae = trained(make)
    ok_N = np.random.default_rng(0).random(N) > 0.2
    made = work(tmp_path, sae, make(), [part(ok_N[:50]), part(ok_N[50:], 50)], batch_size)
    found = encoded(made)
    assert made.rows == {0: 50, 1: 70} and found.schema.equals(schema.activations())
    assert found["image_id"].to_pylist() == [f"i{row}" for row in range(N)]
    with torch.no_grad():
        expected_NM = sae.encode(X_ND).numpy() * ok_N[:, None]
    got_NM = dense(found, expected_NM.shape[1])
    np.testing.assert_array_equal(got_NM != 0, expected_NM != 0)
    np.testing.assert_allclose(got_NM, expected_NM, rtol=1e-5, atol=1e-6)
    for entry in found["feature"].drop_null().to_pylist():
        assert entry == sorted(set(entry))


@pytest.mark.parametrize("make", CENTRED)
def test_lists_and_sums_are_null_exactly_where_the_image_is_not_ok(make: Make, tmp_path: Path) -> None:
    ok_N = np.random.default_rng(1).random(N) > 0.3
    found = encoded(work(tmp_path, trained(make), make(), [part(ok_N)]))
    for column in ("feature", "value", "sq_error", "sq_norm"):
        np.testing.assert_array_equal(found[column].is_valid().to_numpy(), ok_N, err_msg=column)


@pytest.mark.parametrize("make", CENTRED)
def test_sums_of_the_columns_give_the_fvu(make: Make, tmp_path: Path) -> None:
    sae = trained(make)
    ok_N = np.random.default_rng(2).random(N) > 0.3
    found = encoded(work(tmp_path, sae, make(), [part(ok_N)], batch_size=11))
    error, norm = (pa.compute.sum(found[column]).as_py() for column in ("sq_error", "sq_norm"))
    whole = reconstruction(sae, X_ND[ok_N])
    assert error / norm == pytest.approx(whole.fvu, rel=1e-5)
    assert pa.compute.sum(pa.compute.list_value_length(found["feature"])).as_py() == whole.nnz


def test_an_image_on_which_no_feature_is_active_has_empty_lists(tmp_path: Path) -> None:
    sae = trained(CENTRED[0])
    sae.b_enc.data.fill_(-1e6)
    found = encoded(work(tmp_path, sae, CENTRED[0](), [part(np.array([True, False]))]))
    assert found["feature"].to_pylist() == found["value"].to_pylist() == [[], None]


@pytest.mark.parametrize("rows", [0, 3])
def test_a_shard_without_a_readable_image_has_only_nulls(rows: int, tmp_path: Path) -> None:
    found = encoded(work(tmp_path, trained(CENTRED[0]), CENTRED[0](), [part(np.zeros(rows, bool))]))
    assert found.num_rows == rows and found["feature"].null_count == found["sq_norm"].null_count == rows


@settings(max_examples=30, deadline=None)
@given(ok=st.lists(st.booleans(), min_size=1, max_size=N), cut=st.integers(0, N))
def test_the_matrix_holds_the_readable_rows_of_any_slice(ok: list[bool], cut: int) -> None:
    table, cut = part(np.array(ok)), min(cut, len(ok))
    for piece, first in ((table, 0), (table.slice(cut), cut), (pa.concat_tables([table[:cut], table[cut:]]), 0)):
        x_ND, rows = embedding_matrix(piece)
        np.testing.assert_array_equal(rows, np.flatnonzero(ok[first:]))
        np.testing.assert_array_equal(x_ND, X_ND.numpy()[first + rows])


@pytest.mark.parametrize("batch_size", [7, 1024])
def test_an_image_of_patches_is_one_row_of_maxima_and_sums(batch_size: int, tmp_path: Path) -> None:
    make = CENTRED[0]
    sae, ok_N, grid = trained(make), np.arange(N // 4) % 5 > 0, (2, 2)
    x = [x_TD.ravel().tolist() if ok else None for x_TD, ok in zip(X_ND.reshape(-1, 4, DIM).numpy(), ok_N, strict=True)]
    columns = [[f"i{row}" for row in range(N // 4)], x, ok_N.tolist(), [None if ok else "empty" for ok in ok_N]]
    whole = pa.table(columns, schema=schema.embeddings(DIM, grid))
    draft = Draft(Store(str(tmp_path)), "embeddings", 1, {}, {})
    stored = draft.commit([draft.writer(whole.schema).write(0, whole, N // 4)], {}, RUN)
    found = encoded(EncodeWork(stored, sae_artifact(tmp_path, sae, make()), batch_size=batch_size))
    assert found.schema.equals(schema.activations(patches=True))
    z_NTM = sae.encode(X_ND).unflatten(0, (-1, 4)).detach().numpy()
    np.testing.assert_allclose(dense(found, sae.width), z_NTM.max(1) * ok_N[:, None], rtol=1e-4, atol=1e-5)
    wanted = [int(np.count_nonzero(z_TM)) if ok else None for z_TM, ok in zip(z_NTM, ok_N, strict=True)]
    assert found["patch_active"].to_pylist() == wanted and found["sq_norm"].null_count == (~ok_N).sum()
    sums = reconstruction(sae, X_ND.reshape(-1, 4, DIM)[torch.tensor(ok_N)].flatten(0, 1))
    assert sum(found["sq_error"].drop_null().to_pylist()) == pytest.approx(sums.sq_error, rel=1e-4)
