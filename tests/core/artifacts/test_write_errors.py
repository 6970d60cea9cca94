"""Roots that cannot be written: real file systems that are full, read-only or no folders."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.artifacts.write_errors import CAUSES, writing
from medsae_ray.errors import ArtifactError


def test_a_full_disk_is_said_and_holds_no_halves(small_disk: Path) -> None:
    store = Store(str(small_disk))
    store.write("a", b"1" * 100_000)
    for write in (store.write, store.write_new):
        with pytest.raises(ArtifactError, match=r"disk/b cannot be written: no space is left on the device; make room"):
            write("b", b"1" * 1_000_000)
    assert [file.name for file in small_disk.iterdir()] == ["a"] and store.read("a") == b"1" * 100_000


def test_a_read_only_file_system_is_said(small_disk: Path) -> None:
    store = Store(str(small_disk)).child("run")
    store.write("a", b"1")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for write in (lambda: store.write("b", b""), lambda: store.write_new("b", b""), store.check_writable):
        with pytest.raises(ArtifactError, match="cannot be written: the file system is read-only; give a folder"):
            write()
    assert store.read("a") == b"1"


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path, below: str) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written: a file has the name of the folder"):
        Store(f"{tmp_path}/root{below}").write("a", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="permission is denied"):
        Store(str(tmp_path)).write("a", b"")


def test_every_cause_says_what_to_do_and_an_object_store_speaks_for_itself() -> None:
    for number in CAUSES:
        with pytest.raises(ArtifactError, match=r"^x cannot be written: .*; "), writing("x"):
            raise OSError(number, os.strerror(number))
    assert {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT} <= set(CAUSES)
    with pytest.raises(ArtifactError, match="s3://b/x cannot be written: AWS Error ACCESS_DENIED"), writing("s3://b/x"):
        raise OSError("AWS Error ACCESS_DENIED")
    with pytest.raises(OSError, match="SLOW_DOWN"), writing("s3://b/x", lasting=True):
        raise OSError("AWS Error SLOW_DOWN")
    with pytest.raises(TimeoutError), writing("x"):
        raise TimeoutError


def test_a_folder_that_is_deleted_takes_an_empty_parent_with_it(tmp_path: Path) -> None:
    attempts = Store(str(tmp_path)).child("_attempts")
    for name in ("one", "two"):
        attempts.write(f"{name}/state", b"")
    attempts.delete_folder("one")
    assert attempts.folders() == ["two"]
    attempts.delete_folder("two")
    assert list(tmp_path.iterdir()) == []
