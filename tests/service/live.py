"""The service with the real engine behind it, over real HTTP, and phantom films to send."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count, islice

from PIL import Image

from medsae_ray.config import load_recipe
from medsae_ray.core.phantom import Study, patient
from medsae_ray.core.phantom.render import render
from medsae_ray.finished import Finished
from medsae_ray.service.deployment import deployed
from medsae_ray.service.middleware import digest
from tests.service.conftest import Small

TOKEN = "correct-horse-battery"
PHANTOM = load_recipe("phantom")


@contextmanager
def service(small: Small, port: int) -> Iterator[str]:
    """The address of the small run as if its recipe named the phantom's model, which runs already."""
    what = small.recipe.what.model_copy(update={"naming": PHANTOM.what.naming})
    how = small.recipe.how.model_copy(update={"vlm": PHANTOM.how.vlm})
    run: Finished = replace(small.run, recipe=small.recipe.model_copy(update={"what": what, "how": how}))
    with deployed(run, digest(TOKEN)):
        yield f"http://127.0.0.1:{port}"


def films(finding: str, present: bool, number: int) -> list[bytes]:
    """PNGs of patients who all have a finding, or all have none at all."""
    studies = (study for patient_number in count() for study in patient(77, patient_number))
    wanted = (s for s in studies if (s.truth[finding] == 1 if present else not any(s.truth.values())))
    return [_png(study) for study in islice(wanted, number)]


def _png(study: Study) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(render(study)).save(stream, "PNG")
    return stream.getvalue()
