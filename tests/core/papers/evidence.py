"""Evidence as a run would have it, small enough to be checked by hand."""

import json
from dataclasses import replace
from typing import Any

from medsae_ray.core.papers.evidence import Evidence

LEVELS, KS = [128, 512, 2048, 8192], [20, 40, 80, 160]


def probe(target: str, kind: str, n: int | None, auroc: float) -> dict[str, Any]:
    ends = {"low": auroc - 0.1, "high": auroc + 0.1, "positives": 20, "negatives": 30}
    return {"target": target, "kind": kind, "n": n, "auroc": auroc, "untested": None, **ends}


def search(method: str, k: int | None, cosine: float | None) -> dict[str, Any]:
    ends = {
        "cosine_low": 0.1,
        "cosine_high": 0.9,
        "references": 40,
        "lacking": None if cosine else "too few references",
    }
    return {"method": method, "k": k, "label": None, "cosine": cosine, **ends}


def member(ks: list[int], r2: float, l0: float) -> dict[str, Any]:
    settings = json.dumps({"levels": LEVELS, "ks": ks, "width": 8192})
    return {"settings": settings, "artifact": "sae-1", "r2_scalar": r2, "l0": l0}


def score(feature: int, accuracy: float | None) -> dict[str, Any]:
    of_test = {"accuracy": accuracy, "accuracy_low": 0.4, "accuracy_high": 0.9, "n_pos": 10, "n_neg": 12}
    return {"source": "vlm", "feature": feature, "name": f"name {feature}", **of_test}


def space(mean: float | None) -> dict[str, Any]:
    return {"mean": mean, "units": 7, "null_mean": 2.37, "null_sd": 0.01}


def evidence(**changed: Any) -> Evidence:
    """Of SAIL's first arm; `changed` replaces fields."""
    scored = {"units": 12, "found": {"top_10": 0.4, "top_50": None}, "null": {"top_10": 0.05, "top_50": None}}
    mono = {"images": 10, "coherence_null": 0.1, "coherence_null_subsets": 0.11, "coherence_null_sd": 0.03}
    arm = {"named": 9, "distinct_names": 6, "ranked": 8, "unparsed": 1, "rank_counts": [4, 2, 1, 1, 0], "doubt": None}
    arm |= {"success": 0.75, "success_low": 0.41, "success_high": 0.93, "mean_rank": 1.9}
    paper = {"passed": 3, "names": 5, "n_low": 20, "n_high": 22, "expected_by_chance": 0.2}
    rows = [probe(t, k, n, a) for t, k, n, a in (
        ("liver", "dimensions", None, 0.9), ("brain", "dimensions", None, 0.8), ("sex=f", "dimensions", None, 0.55),
        ("liver", "group", 10, 0.7), ("brain", "group", 10, 0.6), ("liver", "random_weights", None, 0.6))]  # fmt: skip
    units = [{"space": "sae", "score": 0.5, "coherence": 0.1 + 0.05 * i, "specificity": 0.8} for i in range(10)]
    found = Evidence(
        summary={
            "monosemanticity": mono | {"spaces": {"sae": {"score": scored}}},
            "findings": {"Edema": {"feature": 1}},
            "names": {"paper": paper, "named": 5, "sight": "seen"},
            "rankings": {"arms": {"both": arm}},
        },
        arm="biomedparse",
        encoder="biomedparse",
        sae={"d_in": 1536, "width": 8192, "levels": LEVELS, "ks": KS},
        last_epoch={"r2_scalar": 0.5, "l0": 9.0},
        counts={"images": 100, "patients": 50, "labels": 121, "heldout": 20, "scans ct": 30},
        features={"sae": {"alive": 40, "width": 64, "dead": 0.375}, "entropy": {"sae": space(2.1), "raw": space(2.4)}},
        monosemanticity=units,
        recovery=rows,
        retrieval=[search("sparse", 5, 0.9), search("dense", 5, 0.8), search("sparse", 20, 0.7),
                   search("dense", 20, 0.8), search("sparse", 100, None), search("whole", None, 0.95)],
        sweep=[member(KS, 0.93, 130.0), member([5, 10, 20, 40], 0.89, 9.8)],
        scores=[score(1, 0.8), score(2, 0.72), score(3, 0.5), score(4, None)],
    )  # fmt: skip
    return replace(found, **changed)
