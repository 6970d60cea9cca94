"""The processes of a sweep on GPUs, on a Ray of its own whose GPUs are only counted."""

import os
import subprocess
import sys

import pytest

DRIVER = """
import logging
import ray
from medsae_ray.stages.sweep_tasks import remote

def look():
    import os
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")

ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
for _ in range(3):
    print("TASK", *ray.get(remote(look, 0.5, 1.0).remote()))
"""


@pytest.mark.ray
def test_a_process_that_has_used_a_gpu_gets_no_other_one() -> None:
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    asked = [sys.executable, "-c", DRIVER]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    tasks = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("TASK")]
    assert len({process for process, _ in tasks}) == 3 and {device for _, device in tasks} <= {"0", "1"}
