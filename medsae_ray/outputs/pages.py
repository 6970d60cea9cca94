"""The pages that people read of a run: kept under a name of the run's own, and as the latest under a plain one.

report-my-recipe-1a2b3c4d.html   this recipe on these data, until the very same run is made again
report.html                      a copy of whichever run below the root came last
"""

import hashlib
import json
import re

from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import ArtifactError
from medsae_ray.runtime.run import Run


def page_id(run: Run, *stages: str) -> str:
    """Return the recipe's name as part of a file name, and 8 hex digits of all that decides the stages' results."""
    what = run.recipe.what.model_dump(mode="json", exclude_defaults=True)
    made = [run.artifact(stage).record.fingerprint for stage in stages]
    digest = hashlib.sha256(json.dumps([run.recipe.name, what, made], sort_keys=True).encode()).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", run.recipe.name.lower()).strip("-")[:40]
    return f"{slug}-{digest[:8]}" if slug else digest[:8]


def named(page: str, own: str) -> str:
    """Return "report-x-1a2b3c4d.html" for ("report.html", "x-1a2b3c4d")."""
    stem, dot, suffix = page.partition(".")
    return f"{stem}-{own}{dot}{suffix}"


def publish(root: Store, own: str, pages: dict[str, bytes]) -> str | None:
    """Write each page under both of its names. Return the reason if that fails: the run is finished all the same."""
    try:
        for page, data in pages.items():
            root.write(named(page, own), data)
        for page, data in pages.items():
            root.write(page, data)
    except ArtifactError as error:
        return str(error)
    return None
