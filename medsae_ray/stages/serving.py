"""What every Ray Serve application here shares: how it is doing, and silence while it is set up."""

import contextlib
import logging
from collections.abc import Iterator

from ray import serve

ABSENT, RUNNING, DEPLOY_FAILED, DELETING = "ABSENT", "RUNNING", "DEPLOY_FAILED", "DELETING"


def status_of(application: str) -> tuple[str, str]:
    """Status of an application, ABSENT if there is none, and what it and its deployments say."""
    found = serve.status().applications.get(application)
    if found is None:
        return ABSENT, "it was stopped"
    said = [found.message, *(deployment.message for deployment in found.deployments.values())]
    return found.status.value, "\n".join(text for text in said if text)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Serve greets at length; a failure to start is an exception all the same."""
    logger = logging.getLogger("ray.serve")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
