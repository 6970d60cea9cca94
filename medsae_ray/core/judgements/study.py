"""A reader study: readers judge the same features, each in an order of their own, without the model's verdict.

The order follows from the study's seed and the reader's name by a hash, so it is the same in every session and on every
machine. What is left follows from the log, so a reader may stop and go on at any time.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.judgements.log import FOLDER
from medsae_ray.core.judgements.record import Judgement, study_name
from medsae_ray.errors import JudgementError


@dataclass(frozen=True)
class Study:
    """The features of a study, which never change once it is there."""

    name: str
    seed: int
    atlas: str
    features: tuple[int, ...]

    def order(self, reader: str) -> list[int]:
        """Return the features in the order in which a reader sees them."""
        return _shuffled(self.features, f"{self.seed}:{reader}")

    def left(self, reader: str, judgements: Iterable[Judgement]) -> list[int]:
        """Return the features that a reader has not voted on in this study, the next first."""
        done = {
            one.feature
            for one in judgements
            if (one.study, one.atlas, one.reader, one.kind) == (self.name, self.atlas, reader, "vote")
        }
        return [feature for feature in self.order(reader) if feature not in done]


def drawn(name: str, seed: int, atlas: str, features: Iterable[int], size: int) -> Study:
    """Make a study of `size` features, drawn from `features` by the seed. JudgementError if there are fewer."""
    known = sorted(set(features))
    if not study_name(name):
        raise JudgementError("it has 1 to 40 letters, digits, _ and -", "name")
    if not 1 <= size <= len(known):
        raise JudgementError(f"it is {size}; the run has {len(known)} features with a tested name", "size")
    return Study(name, seed, atlas, tuple(_shuffled(known, str(seed))[:size]))


def keep(root: Store, study: Study) -> Study:
    """Store a study, and return it; or the one of that name that is there already."""
    data = json.dumps(asdict(study), sort_keys=True).encode()
    root.child(FOLDER).write_new(_file(study.name), data)
    return opened(root, study.name) or study


def opened(root: Store, name: str) -> Study | None:
    """Return the study of a name below `root`, if there is one."""
    try:
        found = json.loads(root.child(FOLDER).read(_file(name)))
    except FileNotFoundError:
        return None
    return Study(**{**found, "features": tuple(found["features"])})


def every(root: Store) -> list[Study]:
    """Return all studies below `root`, by name."""
    files = re.findall(r"^study-(.+)\.json$", "\n".join(root.child(FOLDER).names()), flags=re.MULTILINE)
    return [study for name in files if (study := opened(root, name))]


def _file(name: str) -> str:
    return f"study-{name}.json"


def _shuffled(features: Iterable[int], seed: str) -> list[int]:
    return sorted(features, key=lambda feature: hashlib.sha256(f"{seed}:{feature}".encode()).digest())
