"""What a run prints of retrieval."""

from medsae_ray.core.artifacts.retrieval import RetrievalFigures
from medsae_ray.outputs.console import number
from medsae_ray.outputs.summary_types import Summary


def retrieval_line(summary: Summary) -> str:
    """The label precision of similar images by the best fingerprint, beside whole embeddings and random images."""
    found = summary["retrieval"]
    head = f"similar images of {found['references']:,} test patients, of {found['patients']:,} held-out patients"
    scored = [row for row in found["methods"] if row["precision_10"] is not None]
    fingerprints = [row for row in scored if row["method"] == "sparse"]
    if not fingerprints:
        return f"{head}: no label precision, see `lacking` in the artifact retrieval"
    five = min(fingerprints, key=lambda row: abs((row["k"] or 0) - 5))
    beside = {row["method"]: row for row in scored if row["k"] in (None, five["k"])}
    said = [f"{five['k']} features {number(five['precision_10'])}"]
    words = {"dense": f"{five['k']} dimensions", "whole": "all dimensions", "random": "random images"}
    said += [f"{text} {_precision(beside.get(method))}" for method, text in words.items()]
    return f"{head}: label precision at 10 by {', '.join(said)}"


def _precision(row: RetrievalFigures | None) -> str:
    return number(row["precision_10"] if row else None)
