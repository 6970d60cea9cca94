"""The short form of tests/on_nodes/test_losses.py: a head and one worker node, which is lost in one stage."""

from pathlib import Path

import pytest
import yaml

from medsae_ray.config import parse_recipe
from medsae_ray.pipeline import run_stage
from tests.on_nodes.nodes import cluster
from tests.on_nodes.ward import BUCKET, Bucket, Ward, upload_to
from tests.support.outage import settings, store
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.mark.timeout(400)
def test_a_node_that_is_lost_in_the_middle_of_a_stage_ends_no_run(tmp_path: Path) -> None:
    """It does not come back: what it had under way is computed on the node that is left."""
    data = recipe_data(table_dataset(tmp_path / "data", 320), onnx_encoder(tmp_path / "e.onnx"))
    data["how"]["embed"] = {"actors": 2, "cpus": 0.5}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    data["how"]["engine"] = "loop"
    alone = run_stage(parse_recipe(data), str(tmp_path / "alone"), "embeddings").record
    with store(BUCKET, versions=True) as door, cluster(settings(door), workers=1, head_cpus=2) as nodes:
        ward = Ward(nodes, Bucket(door), door, upload_to(tmp_path / "upload"))
        job = ward.submit(path, "run", "-m", "medsae_ray.cli", "stage", "embeddings")
        ward.lose_a_node(
            job, "MapWorker", lambda: ward.bucket.parts("run", "embeddings") >= 3, "embeddings", back=False
        )
        made = ward.bucket.parts("run", "embeddings")
        job.succeeds(200)
        assert made < len(alone.files), "the node was lost after the stage"
        assert ward.bucket.checksums("run")[alone.name] == {f.name: f.sha256 for f in alone.files}
        assert not ward.bucket.written_twice("run")
