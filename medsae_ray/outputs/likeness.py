"""What a run prints of images that are unlike its own."""

from medsae_ray.outputs.summary_types import Summary


def likeness_line(summary: Summary) -> str:
    """The share of test patients' images that are flagged, beside the threshold and the share that is expected."""
    found = summary["likeness"]
    tested, threshold = found["detection"], found["threshold"]
    if threshold is None:
        return f"unlike the run: unknown, {found['reference']:,} patients of the split naming give no threshold"
    head = f"unlike the run: distance above {threshold:.1f} ({1 - found['level']:.0%} of new patients' images expected)"
    if tested["share"] is None or tested["low"] is None or tested["high"] is None:
        return f"{head}; no test patient"
    interval = f"{tested['low']:.1%} to {tested['high']:.1%}"
    return f"{head}; of {tested['patients']:,} test patients' images {tested['share']:.1%} ({interval})"
