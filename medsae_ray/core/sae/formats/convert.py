"""Export to and import from the checkpoints of other libraries.

Legend: see model.py.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from medsae_ray.core.artifacts.artifact import Artifact, Draft, sha256
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.checkpoint import StoredSAE, sae_from_bytes, sae_to_bytes
from medsae_ray.core.sae.formats import dictionary_learning, saelens, sail, sparsify
from medsae_ray.core.sae.formats.files import Files
from medsae_ray.core.sae.formats.fold import folded
from medsae_ray.errors import ArtifactError, RecipeError


class Format(NamedTuple):
    """The checkpoint format of one library."""

    holds: frozenset[str]
    """The architectures that it can be written for; "sail" stands for matryoshka with compat sail."""
    write: Callable[[StoredSAE, StoredSAE], dict[str, bytes]]
    read: Callable[[Files, str], StoredSAE]


FORMATS = {
    module.NAME: Format(module.HOLDS, module.write, module.read)
    for module in (saelens, dictionary_learning, sparsify, sail)
}
_SHOWN = 4
"""The most names in a message."""
VERSION = 1
"""The version of imported artifacts; a change in the reading of foreign files makes new ones."""


def exported(stored: StoredSAE, name: str) -> dict[str, bytes]:
    """Return the files of one format by name. Raises ArtifactError if it cannot hold this SAE, with those that can."""
    format_ = _known(name)
    kind = stored.config.compat or stored.config.architecture
    if kind not in format_.holds:
        able = [other for other, found in FORMATS.items() if kind in found.holds]
        raise ArtifactError(f"{name} cannot hold a {kind} SAE; {', '.join(able)} can")
    return format_.write(stored if kind == "sail" else folded(stored), stored)


def export_sae(sae: Artifact, name: str, folder: Store, *, overwrite: bool = False) -> list[str]:
    """Write a finished `sae` artifact in another library's format; see `write_checkpoint`."""
    stored = sae_from_bytes(sae.file("weights"), sae.file("config"), sae.store.uri)
    return write_checkpoint(stored, name, folder, overwrite=overwrite)


def write_checkpoint(stored: StoredSAE, name: str, folder: Store, *, overwrite: bool = False) -> list[str]:
    """Write an SAE in another library's format, and return the names of the files in `folder`.

    Raises ArtifactError if the folder holds other files than this export's, whole or in part; with `overwrite` the
    files of an export are replaced, and others stay.
    """
    files = exported(stored, name)
    there = folder.names()
    others = [file for file in there if file not in files or folder.read(file) != files[file]]
    if others and not overwrite:
        raise ArtifactError(
            f"{folder.uri} is not empty, and {', '.join(others[:_SHOWN])} is not of this export; name another folder, "
            "or replace files of the same name with --overwrite"
        )
    # Settings are deleted first and written last: without them no reader takes a half-done export.
    last = sorted(files, key=lambda file: (file.endswith(".json"), file))
    for file in reversed(last):
        if file in others:
            folder.delete(file)
    for file in last:
        folder.write(file, files[file])
    return sorted(files)


def read_checkpoint(name: str, folder: Store) -> StoredSAE:
    """Read a foreign checkpoint. Raises ArtifactError for missing, damaged or unsupported files."""
    return _known(name).read(_Folder(folder), folder.uri)


def import_sae(name: str, folder: Store, root: Store) -> Artifact:
    """Import a foreign checkpoint as a finished `sae` artifact below `root`, named by the content of its files.

    Raises ArtifactError as `read_checkpoint` does.
    """
    stored = read_checkpoint(name, folder)
    weights, config = sae_to_bytes(stored.sae, stored.config, stored.provenance)
    what = {"imported": name, "weights": sha256(weights), "config": sha256(config)}
    draft = Draft(root, "sae", VERSION, what, {})
    written = [draft.write_file("weights", ".safetensors", weights), draft.write_file("config", ".json", config)]
    return draft.commit(written, {}, {})


class _Folder(Mapping[str, bytes]):
    """A folder whose files are read on access: checkpoints lie next to an optimiser's state of twice their size."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, name: str) -> bytes:
        try:
            return self.store.read(name)
        except FileNotFoundError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.store.names())

    def __len__(self) -> int:
        return len(self.store.names())


def _known(name: str) -> Format:
    if name not in FORMATS:
        raise RecipeError(f"format {name!r} is unknown; known: {', '.join(FORMATS)}")
    return FORMATS[name]
