"""A site as a folder: whole under its name, or not there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from medsae_ray.core.artifacts.write_errors import writing
from medsae_ray.core.browser.site import Site
from medsae_ray.errors import ArtifactError

MARK = "medsae-browser.txt"
"""The file by which a folder of this package is known, so that nothing else is ever replaced."""
TEXT = "This folder is made by `medsae browse`. Making it again replaces all of it.\n"


def check_folder(folder: str) -> Path:
    """Return the folder to write. Raises ArtifactError for a URI, a file, or a folder with other contents."""
    if "://" in folder:
        raise ArtifactError(f"--to names a folder of this machine, and not {folder!r}; copy it to a store afterwards")
    path = Path(os.path.abspath(os.path.expanduser(folder)))
    if path.is_dir() and any(path.iterdir()) and not (path / MARK).is_file():
        raise ArtifactError(f"{path} holds something else: name a new folder, or one that medsae browse has made")
    if path.exists() and not path.is_dir():
        raise ArtifactError(f"{path} is a file: name a new folder")
    return path


def write_folder(site: Site, folder: Path, done: Callable[[int], None] = lambda files: None) -> tuple[int, int]:
    """Write all files beside the folder and then give them its name; return their number and bytes.

    An earlier folder of this kind is replaced. Raises ArtifactError if the disk does not take it.
    """
    made = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    with writing(str(folder)):
        try:
            files, size = _write(site, made, done)
            (made / MARK).write_text(TEXT, encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return files, size


def _write(site: Site, folder: Path, done: Callable[[int], None]) -> tuple[int, int]:
    files = size = 0
    for path in site.paths():
        data = site.file(path)
        if data is None:  # an image that cannot be read, or has no more than 8 bits
            continue
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        files, size = files + 1, size + len(data)
        done(files)
    return files, size
