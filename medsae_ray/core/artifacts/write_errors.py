"""A store's errors of writing, as one line with a remedy."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from medsae_ray.errors import ArtifactError

_AGAIN = "and run it again: it continues where it stopped"
_ELSEWHERE = "give a folder that you may write"
CAUSES = {
    errno.ENOSPC: f"no space is left on the device; make room {_AGAIN}",
    errno.EDQUOT: f"the quota of the disk is used up; make room {_AGAIN}",
    errno.EFBIG: f"a file would be larger than the system allows (ulimit -f); raise the limit {_AGAIN}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: f"permission is denied; {_ELSEWHERE}",
    errno.EPERM: f"the system does not permit it; {_ELSEWHERE}",
    errno.ENOTDIR: f"a file has the name of the folder; {_ELSEWHERE}",
    errno.EEXIST: f"a file has the name of the folder; {_ELSEWHERE}",
    errno.EISDIR: "a folder has the name of this file; move it away",
    errno.ENAMETOOLONG: "the name is longer than the file system allows; give a shorter folder",
}
"""The lasting causes, which no second attempt changes."""


@contextmanager
def writing(place: str, *, lasting: bool = False) -> Iterator[None]:
    """Turn the system's errors of a write at `place` (a path or URI) into ArtifactError, with `lasting` only those of
    `CAUSES`. A timeout passes unchanged: it may be Ray's."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        if lasting and error.errno not in CAUSES:
            raise
        raise ArtifactError(f"{place} cannot be written: {_cause(error)}") from error


def _cause(error: OSError) -> str:
    known = CAUSES.get(error.errno or 0)
    return known or error.strerror or str(error)  # an object store has no errno but a text
