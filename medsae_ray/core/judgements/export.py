"""Judgements as a file for others: CSV, JSON lines or Parquet."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from medsae_ray.core.judgements.record import Judgement
from medsae_ray.errors import JudgementError

Form = Literal["csv", "jsonl", "parquet"]
_ENDINGS: dict[Form, str] = {"csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet"}
SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("key", "reader", "at", "atlas", "sae")]
    + [pa.field("feature", pa.int32(), nullable=False), pa.field("name", pa.string())]
    + [pa.field("kind", pa.string(), nullable=False), pa.field("value", pa.string()), pa.field("reason", pa.string())]
    + [pa.field("blind", pa.bool_(), nullable=False), pa.field("study", pa.string())]
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The first characters by which a spreadsheet takes a text for a formula."""


def exported(judgements: Sequence[Judgement], form: Form) -> bytes:
    """Return a whole file. In CSV a text that a spreadsheet would run as a formula has an apostrophe before it."""
    if form == "jsonl":
        return b"".join(one.line() for one in judgements)
    return _csv(judgements) if form == "csv" else _parquet(judgements)


def form_of(file: str) -> Form:
    """Return the form that a file's name asks for. JudgementError for any other."""
    for form, ending in _ENDINGS.items():
        if file.lower().endswith(ending):
            return form
    raise JudgementError(f"{file!r} ends in none of {', '.join(_ENDINGS.values())}, which say the form of the export")


def _csv(judgements: Sequence[Judgement]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, SCHEMA.names)
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in asdict(one).items()} for one in judgements)
    return stream.getvalue().encode()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _parquet(judgements: Sequence[Judgement]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([asdict(one) for one in judgements], schema=SCHEMA), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
