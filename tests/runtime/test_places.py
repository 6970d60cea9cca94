"""Roots that end with a job. Roots that other nodes do not see are tried on several nodes, in tests/on_nodes."""

from pathlib import Path

import pytest

from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import run_recipe, run_stage
from medsae_ray.runtime.places import check_place, check_seen
from tests.support.small import recipe_of

UNPACKED = "/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0123"


@pytest.mark.parametrize("root", ["runs/x", ".", "./x", "../x", "x"])
def test_a_relative_root_in_a_submitted_job_is_refused(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    check_place(root)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(RecipeError, match=r"--root .* is a relative path.*every node mounts, or an object store"):
        check_place(root)


@pytest.mark.parametrize("root", [UNPACKED, f"{UNPACKED}/runs/x", f"file://{UNPACKED}/x", f"/a/../{UNPACKED}/x"])
def test_a_root_in_an_unpacked_package_is_refused_wherever_it_is_asked_for(root: str) -> None:
    with pytest.raises(RecipeError, match="that Ray unpacked and will delete"):
        check_place(root)


@pytest.mark.parametrize("root", ["s3://b/runs/x", "/data/x", "~/x", "file:///data/x", "gs://b"])
def test_other_roots_of_a_job_are_taken(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    check_place(root)


def test_it_is_refused_before_anything_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.chdir(tmp_path)
    for run in (lambda r: run_recipe(r, "runs/x"), lambda r: run_stage(r, "runs/x", "manifest")):
        with pytest.raises(RecipeError, match="relative path"):
            run(recipe_of(tmp_path))
    assert not list(tmp_path.iterdir())


def test_one_node_is_asked_nothing(ray_cluster: None, tmp_path: Path) -> None:
    seen: set[str] = set()
    check_seen(Store(str(tmp_path)), seen)
    assert not seen and not list(tmp_path.iterdir())
