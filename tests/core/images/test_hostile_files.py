"""Hostile files: no crash, no hang, no memory beyond a bound, and each of them counted under its reason."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

BOUND_MIB = 1536
"""Above what the process holds before it opens the first file."""


def test_each_hostile_file_is_counted_by_its_reason(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.hostile_run", str(tmp_path / "files"), "65", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    for name, expected in result["expected"].items():
        assert Counter(result["found"][name]) == Counter(expected), name
    assert result["peak_mib"] - result["peak_mib_before"] < BOUND_MIB
    assert "H1" not in done.stderr and "JANE" not in done.stderr
