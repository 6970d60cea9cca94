"""The Arrow schema of stage `retrieval`, beside those of schema.py."""

import pyarrow as pa

FIGURES = ("cosine", "precision_5", "precision_10", "average_precision")


def retrieval() -> pa.Schema:
    """One row per way to search, size of fingerprint and label, and one without a label for `cosine`.

    `method` is "sparse", "rarity", "dense" (fingerprints of `k` coordinates), "whole" (the cosine of embeddings) or
    "random". Means over `references`, those with the label; `left_out` had no fingerprint of k coordinates. `cosine`
    is of whole embeddings with the five nearest images, precision and average precision count images with the label
    among the first five and ten. `chance` is the label's prevalence. Without figures `lacking` says what is missing.
    """
    figures = [pa.field(f"{figure}{end}", pa.float64()) for figure in FIGURES for end in ("", "_low", "_high")]
    return pa.schema(
        [
            pa.field("method", pa.string(), nullable=False),
            pa.field("k", pa.int32()),
            pa.field("label", pa.string()),
            pa.field("references", pa.int64(), nullable=False),
            pa.field("left_out", pa.int64(), nullable=False),
            pa.field("chance", pa.float64()),
            *figures,
            pa.field("lacking", pa.string()),
        ]
    )
