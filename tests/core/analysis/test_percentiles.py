from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medsae_ray.core.analysis.percentiles import OwnActivations
from tests.core.made import activations_table, artifact, cohort


def own(root: Path, images: int = 200, shard_rows: int = 30, most: int = 20_000) -> tuple[OwnActivations, np.ndarray]:
    made = cohort(images=images)
    shards = np.split(np.arange(images), range(shard_rows, images, shard_rows))
    activations = artifact(root, "activations", [activations_table(made, rows) for rows in shards])
    return OwnActivations.of(activations, made.z_NM.shape[1], most), np.where(made.ok_N[:, None], made.z_NM, 0)


def test_it_is_the_share_of_the_images_with_the_feature(tmp_path: Path) -> None:
    found, z_NF = own(tmp_path)
    for feature, z_N in enumerate(z_NF.T[:-1]):
        active = z_N[z_N > 0]
        for value in (*active[:9], 0.5 * active.min(), 2 * active.max()):
            expected = stats.percentileofscore(active, value, kind="weak")
            assert found.percentile(feature, float(value)) == pytest.approx(expected)
        assert found.percentile(feature, float(active.max())) == 100


def test_a_feature_that_is_on_no_image_has_no_share(tmp_path: Path) -> None:
    found, z_NF = own(tmp_path)
    assert not z_NF[:, -1].any() and found.percentile(z_NF.shape[1] - 1, 3.0) == 0


def test_of_many_images_some_are_read(tmp_path: Path) -> None:
    (whole, _), (some, _) = own(tmp_path / "all", 2000, 300), own(tmp_path / "some", 2000, 300, 500)
    assert sum(map(len, some.values)) < 0.3 * sum(map(len, whole.values))
    assert all(abs(some.percentile(0, v) - whole.percentile(0, v)) < 12 for v in (0.5, 1.0, 2.0, 4.0))
