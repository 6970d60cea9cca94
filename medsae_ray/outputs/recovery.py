"""The line of a run's end on what few features keep."""

from medsae_ray.core.artifacts.recovery import CurvePoint, RecoveryMetrics
from medsae_ray.core.probing.curves import RANDOM
from medsae_ray.core.probing.shares import headed_by
from medsae_ray.outputs.console import number


def recovery_line(found: RecoveryMetrics) -> str:
    """Say what the strongest features, and features drawn by chance, carry of what all dimensions carry."""
    n = headed_by(found["curves"])
    points = {point["kind"]: point for point in found["curves"] if point["n"] == n}
    if n is None or "features" not in points:
        above = f"above {number(found['dense_above'], 1)}"
        return f"recovery: no target of {found['targets']} that all dimensions tell with an AUROC {above} has features"
    many = f"{n} feature carries" if n == 1 else f"{n} features carry"
    controls = (
        ("random", "random features"),
        ("shuffled", "shuffled labels"),
        ("dimensions", "raw dimensions"),
        (RANDOM, "random weights"),
    )
    beside = [f"{words} {_above(points[kind])}" for kind, words in controls if kind in points]
    strongest = points["features"]
    said = f"{many} {_above(strongest)}{_interval(strongest)} of what all dimensions carry above chance"
    areas = f"AUROC {number(strongest['auroc'])} of {number(found['dense'])} over {found['counted']} targets"
    return f"{said}, {', '.join(beside)}\n{areas}"


def _above(point: CurvePoint) -> str:
    return number(point["above_chance"])


def _interval(point: CurvePoint) -> str:
    low, high = point["above_chance_low"], point["above_chance_high"]
    return "" if low is None or high is None else f" ({number(low)} to {number(high)})"
