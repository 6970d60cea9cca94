"""Identifiers replaced by a keyed hash, so that manifest, results, prompts and reports name no patient.

HMAC-SHA256 (RFC 2104) under a key that is in no artifact. Without the key an identifier can neither be computed nor
confirmed by trying candidates; with it the same patient gets the same pseudonym in every run. The column `uri`, which
locates the images, is kept unchanged and copied nowhere else.
"""

import hmac
import os
import secrets
import uuid
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from medsae_ray.core.artifacts.store import Store, split_uri
from medsae_ray.core.artifacts.write_errors import writing
from medsae_ray.errors import RecipeError

KEY_FILE = "id-key"
"""The name of the generated key in the run's root."""
SHORTEST = 16
"""The minimum number of bytes of a key; shorter ones could be found by trying."""
_DIGITS = 32
"""The hex digits kept of 64: 128 bits, with which 10^12 identifiers collide with a probability of 10^-15."""


def pseudonym(key: bytes, kind: str, identifier: str) -> str:
    """Return 32 hex digits for one identifier. `kind` (patient, study, image) keeps equal texts of two kinds apart."""
    return hmac.digest(key, f"{kind}\0{identifier}".encode(), "sha256").hex()[:_DIGITS]


def hash_ids(manifest: pa.Table, key: bytes, datasets: Collection[str]) -> pa.Table:
    """Return the manifest with image_id, patient_id and study_id hashed in the rows of `datasets`.

    Call it after the splits are drawn: they depend on the original identifiers and stay as they are.
    """
    hidden_N = np.isin(manifest["dataset"].to_numpy(zero_copy_only=False).astype(str), list(datasets))
    for column in ("image_id", "patient_id", "study_id"):
        if column in manifest.column_names:
            place, kind = manifest.schema.get_field_index(column), column.removesuffix("_id")
            values = zip(manifest[column].to_pylist(), hidden_N.tolist(), strict=True)
            hashed = [pseudonym(key, kind, value) if hidden and value else value for value, hidden in values]
            manifest = manifest.set_column(place, manifest.schema.field(place), pa.array(hashed, pa.string()))
    return manifest


def key_check(key: bytes) -> str:
    """Return 12 hex digits that distinguish keys without revealing them, so that a record may hold them."""
    return hmac.digest(key, b"medsae-ray key check", "sha256").hex()[:12]


def find_key(root: Store, file: str | None = None, variable: str | None = None) -> bytes:
    """Return the key in the named file or environment variable, else the root's own, which is made when first needed.

    RecipeError if there is none, if it is shorter than `SHORTEST` bytes, or if it would have to be kept where it cannot
    be private (an object store).
    """
    if file:
        where, key = f"how.id_key.file {file}", _read(file)
    elif variable:
        where, key = f"environment variable {variable}", os.environ.get(variable, "").strip().encode()
    else:
        where, key = f"{root.uri}/{KEY_FILE}", _generated(root)
    if len(key) < SHORTEST:
        raise RecipeError(f"{where} holds a key of {len(key)} bytes; at least {SHORTEST} are needed, better 32 random")
    return key


def _read(file: str) -> bytes:
    folder, name = split_uri(file)
    try:
        return folder.read(name).strip()
    except OSError as error:
        raise RecipeError(f"how.id_key.file: {file} cannot be read: {error}") from error


def _generated(root: Store) -> bytes:
    """Return the root's key, written with mode 0600 by the first process that needs it."""
    if not root.is_local:
        raise RecipeError(
            f"identifiers are to be hashed and {root.uri} is no place for a key: set how.id_key.file or .variable"
        )
    final = Path(root.path(KEY_FILE))
    with writing(str(final)):
        _make(final)
    return final.read_bytes().strip()


def _make(final: Path) -> None:
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{KEY_FILE}.{uuid.uuid4().hex}.tmp")
        with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
            stream.write(secrets.token_hex(32))
        try:
            os.link(temporary, final)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
