"""Local copies of files from other stores, in one cache, each under the hash of its content."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import pyarrow.fs as pafs

from medsae_ray.core.artifacts.store import Store, plain_path, split_uri


def cache_dir() -> Path:
    """Return the folder of downloads and copies: ~/.cache/medsae_ray, or under $XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medsae_ray"


@lru_cache
def local_copy(uri: str) -> str:
    """Return `uri` itself if it is local or on the web, else (s3://, gs://) a copy in the cache, named by content.

    Of a folder, only its direct files are copied.
    """
    if "://" not in uri or uri.startswith(("http://", "https://")):
        return plain_path(uri)
    folder, name = split_uri(uri)
    cache = Store(str(cache_dir()))
    if folder.info(name).type != pafs.FileType.Directory:
        return _cached(cache, name, folder.read(name))
    files = {inner: folder.child(name).read(inner) for inner in folder.names(name)}
    digest = hashlib.sha256(b"".join(inner.encode() + hashlib.sha256(data).digest() for inner, data in files.items()))
    copy = cache.child(f"{digest.hexdigest()[:16]}-{name}")
    for inner, data in files.items():
        if not copy.exists(inner):
            copy.write(inner, data)
    return copy.uri


def _cached(cache: Store, name: str, data: bytes) -> str:
    copy = f"{hashlib.sha256(data).hexdigest()[:16]}-{name}"
    if not cache.exists(copy):
        cache.write(copy, data)
    return cache.path(copy)
