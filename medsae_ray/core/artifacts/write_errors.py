"""What a store answers when it cannot be written, as one line with what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from medsae_ray.errors import ArtifactError

_AGAIN = "and run it again: it goes on where it stopped"
_ELSEWHERE = "give a folder that you may write"
CAUSES = {
    errno.ENOSPC: f"no space is left on the device; make room {_AGAIN}",
    errno.EDQUOT: f"the quota of the disk is used up; make room {_AGAIN}",
    errno.EFBIG: f"a file would be larger than the system allows (ulimit -f); raise the limit {_AGAIN}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: f"permission is denied; {_ELSEWHERE}",
    errno.EPERM: f"the system does not permit it; {_ELSEWHERE}",
    errno.ENOTDIR: f"what should be a folder is a file; {_ELSEWHERE}",
    errno.EEXIST: f"what should be a folder is a file; {_ELSEWHERE}",
    errno.EISDIR: "a folder has the name of this file; move it away",
    errno.ENAMETOOLONG: "the name is longer than the file system allows; give a shorter folder",
}
"""What no second attempt changes."""


@contextmanager
def writing(place: str, *, lasting: bool = False) -> Iterator[None]:
    """Turns the system's errors of a write at `place` (a path or URI) into ArtifactError, with `lasting` only those of
    `CAUSES`. What timed out is left as it is: it may be of Ray's."""
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
    return known or error.strerror or str(error)  # an object store has no errno, and says it in words
