"""The code for GPUs on a machine without one: tests/support/pretended_cuda.py has what is pretended, and how."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "pretended_gpu"


def outcome(*arguments: str) -> tuple[int, str]:
    """Run tests in a process of their own, because the pretended GPU changes torch for a whole process."""
    call = [sys.executable, "-m", "pytest", "--tb=short", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, cwd=FOLDER.parents[1], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.parametrize("names", [("devices", "saes", "sections"), ("encoders",)])
def test_everything_runs_on_a_pretended_gpu(names: tuple[str, ...]) -> None:
    status, said = outcome(*(str(FOLDER / f"{name}.py") for name in names))
    assert status == 0 and "skipped" not in said, said


def test_every_file_of_the_folder_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {"devices", "saes", "sections", "encoders"}
