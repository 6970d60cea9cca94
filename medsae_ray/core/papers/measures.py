"""The measures of a run that stand beside published figures: of its data, its SAE, entropies and names.

Each takes the evidence and the arguments that the paper's file gives, and raises Lacking where the run has none.
"""

import json
from collections.abc import Iterator
from typing import Any

from medsae_ray.core.papers.evidence import Evidence, Lacking, Measured, Row, known, part_of

PASSES = 0.70
"""The accuracy from which MedSAE counts a name."""


def not_computed(evidence: Evidence, why: str) -> Measured:
    """Raise Lacking: no run has the figure."""
    raise Lacking(why)


def sae_setting(evidence: Evidence, key: str) -> Measured:
    """Return a setting of the run's SAE."""
    return Measured(evidence.sae[key])


def images(evidence: Evidence) -> Measured:
    """Count the images."""
    return Measured(evidence.counts["images"], evidence.counts["patients"], "patients")


def labels(evidence: Evidence) -> Measured:
    """Count the labels."""
    return Measured(evidence.counts["labels"])


def scans(evidence: Evidence, dataset: str) -> Measured:
    """Count the scans of a dataset."""
    return Measured(known(evidence.counts.get(f"scans {dataset}"), f"it has no scans of a dataset {dataset}"))


def official(evidence: Evidence, part: str) -> Measured:
    """Count the images of a part of TotalSegmentator's own split."""
    why = f"no image has the part {part} in the metadata split"
    return Measured(known(evidence.counts.get(f"split {part}"), why))


def sweep_size(evidence: Evidence) -> Measured:
    """Count the SAEs of the sweep that were trained."""
    return Measured(len(_trained(evidence)))


def sweep_one(evidence: Evidence, measure: str) -> Measured:
    """Return a figure of the SAE with the paper's settings: one of the sweep, or the run's own."""
    wanted = evidence.published_sae
    for row in _trained(evidence, least=0):
        if wanted == {key: _settings(evidence, row).get(key) for key in wanted}:
            return _heldout(evidence, row[measure])
    if all(list(evidence.sae.get(key) or ()) == value for key, value in wanted.items()):
        return _heldout(evidence, evidence.last_epoch[measure])
    said = " and ".join(f"{key} {'-'.join(map(str, value))}" for key, value in wanted.items())
    raise Lacking(f"none of its SAEs has {said}")


def sweep_most(evidence: Evidence, measure: str) -> Measured:
    """Return the largest figure of the sweep."""
    return _heldout(evidence, max(row[measure] for row in _trained(evidence)))


def sweep_least(evidence: Evidence, measure: str) -> Measured:
    """Return the smallest figure of the sweep."""
    return _heldout(evidence, min(row[measure] for row in _trained(evidence)))


def sweep_most_l0(evidence: Evidence) -> Measured:
    """Return the L0 of the SAE with the largest R2 about one mean."""
    return _heldout(evidence, max(_trained(evidence), key=lambda row: float(row["r2_scalar"]))["l0"])


def sweep_least_l0(evidence: Evidence) -> Measured:
    """Return the L0 of the SAE with the smallest R2 about one mean."""
    return _heldout(evidence, min(_trained(evidence), key=lambda row: float(row["r2_scalar"]))["l0"])


def chosen(evidence: Evidence) -> Measured:
    """Write the run's SAE as SAIL writes its own."""
    levels, ks = ("-".join(map(str, evidence.sae.get(key) or ())) for key in ("levels", "ks"))
    if not levels or not ks:
        raise Lacking("its SAE has no levels of their own ks")
    return Measured(f"{levels}, K {ks}", len(evidence.sweep) or None, "SAEs compared" if evidence.sweep else "")


def alive(evidence: Evidence) -> Measured:
    """Count the features that are active on a held-out image."""
    found = evidence.features["sae"]
    return Measured(found["alive"], found["width"], "features")


def dead(evidence: Evidence) -> Measured:
    """Return the share of features that are active on no held-out image."""
    found = evidence.features["sae"]
    return Measured(found["dead"], found["width"], "features")


def entropy(evidence: Evidence, space: str) -> Measured:
    """Return the mean entropy of labels over the units of a space, with its null as a note."""
    found = evidence.features["entropy"][space]
    mean = known(found["mean"], "it has fewer than two labels that vary")
    return Measured(mean, found["units"], "units", note=_null(found))


def entropy_gain(evidence: Evidence) -> Measured:
    """Return the entropy of raw dimensions less that of features, with what labels shuffled leave of it."""
    raw, sae = (evidence.features["entropy"][space] for space in ("raw", "sae"))
    if raw["mean"] is None or sae["mean"] is None:
        raise Lacking("it has fewer than two labels that vary")
    null = raw["null_mean"] - sae["null_mean"]
    return Measured(raw["mean"] - sae["mean"], sae["units"], "features", note=f"{null:.3f} with labels shuffled")


def names_passed(evidence: Evidence) -> Measured:
    """Count the names with MedSAE's accuracy, beside those that coin tosses would pass."""
    names = part_of(evidence, "names", "what.naming")
    found = names["paper"]
    if not found["names"]:
        raise Lacking(f"no name of {names['named']} was tested; the model's sight is {names['sight']}")
    chance, sizes = found["expected_by_chance"], sorted({found["n_low"], found["n_high"]})
    images = f"{' to '.join(map(str, sizes))} images"
    note = "" if chance is None else f"{chance:.1f} expected of coin tosses on {images}"
    return Measured(found["passed"], found["names"], "names tested", note=note)


def names_least(evidence: Evidence) -> Measured:
    """Return the least accuracy among the names that MedSAE would count."""
    part_of(evidence, "names", "what.naming")
    rows = [row for row in evidence.scores if row["source"] == "vlm" and (row["accuracy"] or 0) >= PASSES]
    if not rows:
        raise Lacking(f"no name has an accuracy of {PASSES:.2f} or more")
    return _accuracy(min(rows, key=lambda row: float(row["accuracy"])))


def named_label(evidence: Evidence, label: str) -> Measured:
    """Return the accuracy of the name of the feature that correlates most with a label."""
    part_of(evidence, "names", "what.naming")
    found = evidence.summary["findings"].get(label)
    feature = known(found and found["feature"], f"no feature correlates with {label}")
    rows = [row for row in evidence.scores if row["source"] == "vlm" and row["feature"] == feature]
    if not rows or rows[0]["accuracy"] is None:
        raise Lacking(f"the name of feature {feature}, which correlates most with {label}, was not tested")
    return _accuracy(rows[0])


def judged(evidence: Evidence, figure: str) -> Measured:
    """Return a figure of the ranking of names by images and metadata, as SAIL has it."""
    arms = part_of(evidence, "rankings", "what.naming.judge")["arms"]
    found = known(arms.get("both"), "what.naming.judge shows the model no metadata")
    n = found["named"] if figure == "distinct_names" else found["ranked"]
    of, low, high = ("names" if figure == "distinct_names" else "rankings"), None, None
    if found["doubt"] and figure in ("success", "mean_rank", "first"):
        raise Lacking(found["doubt"])
    value = found["rank_counts"][0] if figure == "first" else found[figure]
    if figure == "success":
        low, high = found["success_low"], found["success_high"]
    return Measured(known(value, "no ranking could be read"), n, of, low, high)


def _trained(evidence: Evidence, least: int = 1) -> list[Row]:
    rows = [row for row in evidence.sweep if row["artifact"]]
    if len(rows) < least:
        raise Lacking("the recipe has no what.sweep that chooses its SAE")
    return rows


def _settings(evidence: Evidence, row: Row) -> dict[str, Any]:
    return {**evidence.sae, **json.loads(row["settings"])}


def _heldout(evidence: Evidence, value: float) -> Measured:
    return Measured(value, evidence.counts["heldout"], "images of the split naming")


def _accuracy(row: Row) -> Measured:
    images = row["n_pos"] + row["n_neg"]
    return Measured(
        row["accuracy"], images, "images", row["accuracy_low"], row["accuracy_high"], f"named {row['name']}"
    )


def _null(found: Row) -> str:
    parts: Iterator[str] = (f"{found[key]:.3f}" for key in ("null_mean", "null_sd") if found[key] is not None)
    said = " ± ".join(parts)
    return f"{said} with labels shuffled" if said else ""


MEASURES = {
    one.__name__: one
    for one in (
        not_computed,
        sae_setting,
        images,
        labels,
        scans,
        official,
        sweep_size,
        sweep_one,
        sweep_most,
        sweep_least,
        sweep_most_l0,
        sweep_least_l0,
        chosen,
        alive,
        dead,
        entropy,
        entropy_gain,
        names_passed,
        names_least,
        named_label,
        judged,
    )
}
