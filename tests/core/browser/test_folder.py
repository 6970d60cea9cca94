from collections.abc import Iterator
from pathlib import Path

import pytest

from medsae_ray.core.browser.folder import MARK, check_folder, write_folder
from medsae_ray.core.browser.site import Site
from medsae_ray.errors import ArtifactError
from tests.core.browser.made import made


def test_a_folder_has_every_file_and_is_replaced_whole(tmp_path: Path) -> None:
    site, folder = Site(made()), tmp_path / "pages"
    files, size = write_folder(site, check_folder(str(folder)))
    there = [path for path in folder.rglob("*") if path.is_file() and path.name != MARK]
    assert len(there) == files and sum(path.stat().st_size for path in there) == size
    assert (folder / "feature/3.html").read_bytes() == site.file("feature/3.html")
    (folder / "stale.html").touch()
    write_folder(site, check_folder(str(folder)))
    assert not (folder / "stale.html").exists() and [p.name for p in tmp_path.iterdir()] == ["pages"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ArtifactError, match="holds something else"):
        check_folder(str(tmp_path / "mine"))
    with pytest.raises(ArtifactError, match="is a file"):
        check_folder(str(tmp_path / "mine" / "thesis.tex"))
    with pytest.raises(ArtifactError, match="of this machine"):
        check_folder("s3://bucket/pages")


def test_a_failed_write_leaves_the_earlier_folder(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    write_folder(Site(made()), folder)

    class Broken(Site):
        def paths(self) -> Iterator[str]:
            yield "index.html"
            raise OSError(28, "no space")

    before = (folder / "index.html").read_bytes()
    with pytest.raises(ArtifactError, match="no space is left"):
        write_folder(Broken(made()), folder)
    assert (folder / "index.html").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["pages"]
