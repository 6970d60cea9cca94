from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.layout import Layout, embedding_matrix, token_matrix
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import ArtifactError

LAYOUTS = [Layout(5), Layout(5, (1, 1)), Layout(3, (2, 4))]
OK = [True, False, True]


def rows(layout: Layout) -> tuple[np.ndarray, pa.Table]:
    x_NTD = np.random.default_rng(0).normal(size=(3, layout.tokens, layout.dim)).astype(np.float32)
    x = [x_TD.ravel().tolist() if ok else None for x_TD, ok in zip(x_NTD, OK, strict=True)]
    columns = [["a", "b", "c"], x, OK, [None if ok else "empty" for ok in OK]]
    return x_NTD, pa.table(columns, schema=schema.embeddings(*layout))


def written(folder: Path, part: pa.Table, declared: pa.Schema) -> Artifact:
    draft = Draft(Store(str(folder)), "embeddings", 1, {}, {})
    return draft.commit([draft.writer(declared).write(0, part, 3)], {}, {})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_schema_of_an_artifact_says_what_its_numbers_are(layout: Layout, tmp_path: Path) -> None:
    x_NTD, part = rows(layout)
    artifact = written(tmp_path, part, schema.embeddings(*layout))
    assert Layout.of(artifact.schema) == Layout.of(artifact.part(0).schema) == layout
    found_NTD, numbers = token_matrix(artifact.part(0))
    assert numbers.tolist() == [0, 2]
    np.testing.assert_array_equal(found_NTD, x_NTD[[0, 2]])
    mean_ND, numbers = embedding_matrix(artifact.part(0))
    assert numbers.tolist() == [0, 2]
    np.testing.assert_allclose(mean_ND, x_NTD[[0, 2]].mean(1), rtol=1e-6)


def test_one_embedding_per_image_is_declared_as_it_always_was() -> None:
    x = schema.embeddings(5).field("x")
    assert x.metadata is None and x.type == pa.list_(pa.field("item", pa.float32(), nullable=False), 5)


def test_patches_of_another_grid_are_refused(tmp_path: Path) -> None:
    _, part = rows(Layout(3, (2, 4)))
    with pytest.raises(ArtifactError, match=r"column 'x' is fixed_size_list.*24.*27.* is declared"):
        written(tmp_path, part, schema.embeddings(3, (3, 3)))
