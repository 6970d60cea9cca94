"""The figures of stage `recovery`, as metrics.py has those of the others."""

from typing import TypedDict


class CurvePoint(TypedDict):
    """Probes on n columns of one kind, over the targets that count."""

    kind: str
    """As in the rows."""
    n: int | None
    """None: all columns."""
    auroc: float
    """The mean over targets."""
    ratio: float
    """SAIL's recovery: that mean over the one of all dimensions."""
    ratio_low: float | None
    """Of a bootstrap over targets; None with one target."""
    ratio_high: float | None
    above_chance: float
    """(mean AUROC - 0.5) / (mean AUROC of all dimensions - 0.5)."""
    above_chance_low: float | None
    above_chance_high: float | None


class RecoveryMetrics(TypedDict):
    """Stage `recovery`: what few features keep of all dimensions."""

    targets: int
    """All of them: labels, and what the metadata give."""
    tested: int
    """Those with a probe on all dimensions and a test."""
    counted: int
    """Those of them that all dimensions tell, with an AUROC above `dense_above`: the curves are over these."""
    dense_above: float
    dense: float | None
    """The mean AUROC of all dimensions over the targets that count; None without one."""
    curves: list[CurvePoint]
    """The points that all targets that count have."""
    untested: dict[str, str]
    """Target -> why it was not probed or tested."""
    fitted: int
    """The patients that probes were fitted to, that chose penalties and orders, and that measured."""
    judged: int
    measured: int
