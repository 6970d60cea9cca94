"""The Arrow schema of stage `recovery`'s rows, as schema.py has those of the others."""

import pyarrow as pa


def recovery() -> pa.Schema:
    """One row per probe: a target on the n strongest columns of a kind, or on all of them (`n` is null).

    `kind` is "features" (in the target's own order), "group" (in SAIL's order, one for all targets of a group),
    "dimensions" of the encoder, its principal "components", "random" features, or "shuffled": the labels permuted, then
    as for features. `columns` are the n features or dimensions, the strongest first; of components their numbers. A
    probe is fitted on `patients` with `strength` C, and its `auroc` is over the detection patients, one image each. A
    target, or a kind of it, without a probe has the reason in `untested`, and nulls.
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
