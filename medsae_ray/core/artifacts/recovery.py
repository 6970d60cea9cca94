"""What stage `recovery` stores: the schema of its rows, and the figures of its record."""

from typing import TypedDict

import pyarrow as pa


def rows() -> pa.Schema:
    """One row per probe: a target on the n strongest columns of a kind, or on all of them (`n` is null).

    `kind` is "features" (in the target's own order), "group" (in SAIL's order, one for all targets of a group),
    "dimensions" of the encoder, its principal "components", "random" features, "shuffled": the labels permuted, then as
    for features, or "random_weights": dimensions of the encoder with random weights, if the recipe asks. `columns` are
    the n features or dimensions, the strongest first; of components their numbers. A probe is fitted on `patients` with
    `strength` C, and its `auroc` is over the detection patients, one image each. A target, or a kind of it, without a
    probe has the reason in `untested`, and nulls.
    """
    text = [pa.field(name, pa.string(), nullable=False) for name in ("target", "group")]
    reals = [pa.field(name, pa.float64()) for name in ("auroc", "low", "high", "strength")]
    counts = [pa.field(name, pa.int64()) for name in ("positives", "negatives", "patients")]
    columns = pa.list_(pa.field("item", pa.int32(), nullable=False))
    return pa.schema(
        [
            *text,
            pa.field("kind", pa.string()),
            pa.field("n", pa.int32()),
            *reals,
            *counts,
            pa.field("columns", columns),
            pa.field("untested", pa.string()),
        ]
    )


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
