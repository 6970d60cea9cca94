"""An append-only store of answers: immutable Parquet files named by the hash of their content.

A file exists whole or not at all, and one whose name does not match its content is foreign. So a killed writer loses no
rows for which `append` returned, and any number of writers need no lock.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medsae_ray.core.artifacts.columns import with_null
from medsae_ray.core.artifacts.schema import conform
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import ArtifactError

_NAME = re.compile(r"rows-([0-9a-f]{32})\.parquet")


def answers_schema() -> pa.Schema:
    """One row per yes/no question. `failed` is the reason for a missing answer; `p_yes` and `mass` are then null."""
    required = [pa.field(name, pa.string(), nullable=False) for name in ("address", "image_id", "name")]
    optional = [("definition", pa.string()), ("p_yes", pa.float64()), ("mass", pa.float64()), ("failed", pa.string())]
    return pa.schema([*required, *(pa.field(name, kind) for name, kind in optional)])


def replies() -> pa.Schema:
    """One row per written reply, valid or not. `failed` is the reason for a missing text."""
    return pa.schema(
        [
            pa.field("address", pa.string(), nullable=False),
            pa.field("feature", pa.int32(), nullable=False),
            pa.field("attempt", pa.int32(), nullable=False),
            pa.field("text", pa.string()),
            pa.field("finish", pa.string(), nullable=False),
            pa.field("failed", pa.string()),
        ]
    )


class Loaded(NamedTuple):
    """The rows of a ledger, one per address, in order of address."""

    table: pa.Table
    files: int
    ignored: int
    """The number of files that are torn, foreign or of another schema."""
    duplicates: int
    """The number of rows left out because their address came before."""

    def answered(self) -> set[str]:
        """Return the addresses that hold an answer; a failure is not one, so it is asked again."""
        return set(self.table.filter(pc.is_null(self.table["failed"]))["address"].to_pylist())

    def rows(self, addresses: Sequence[str]) -> pa.Table:
        """Return the rows at these addresses, in order, also repeated ones. Raises ArtifactError for a missing one."""
        found = pc.index_in(pa.array(addresses, pa.string()), value_set=self.table["address"])
        if found.null_count:
            missing = addresses[pc.index(found.is_null(), True).as_py()]
            raise ArtifactError(f"the ledger has no row at {found.null_count} addresses, the first is {missing}")
        return self.table.take(found)


@dataclass(frozen=True)
class Ledger:
    """The rows of `schema` (with columns `address` and `failed`) below `store`. Picklable but for open connections."""

    store: Store
    schema: pa.Schema

    def append(self, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """Write `rows` as one file and return its name when it is safe; None, and no file, for no rows.

        A column that a row lacks is null, and so is NaN; a row with NaN that gives no reason has failed with "nan".
        Raises ArtifactError if a row does not fit the schema.
        """
        if not rows:
            return None
        data = _parquet(self._table(rows))
        name = f"rows-{_digest(data)}.parquet"
        self.store.write_new(name, data)
        return name

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        if unknown := sorted(set().union(*rows) - set(self.schema.names)):
            raise ArtifactError(f"{self.store.uri}: rows have unknown columns {unknown}")
        try:
            table = pa.Table.from_pylist([_without_nan(row) for row in rows], schema=self.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ArtifactError(f"{self.store.uri}: a row does not fit the schema: {error}") from error
        return conform(table, self.schema, self.store.uri)

    def load(self) -> Loaded:
        """Read all whole files. For one address an answer beats a failure, then the first file name wins."""
        names = self.store.names()
        tables = [table for name in names if (table := self._read(name)) is not None]
        table = pa.concat_tables([self.schema.empty_table(), *tables])
        address_N = table["address"].to_numpy(zero_copy_only=False).astype(np.str_)
        failed_N = table["failed"].is_valid().to_numpy(zero_copy_only=False).astype(bool)
        order = np.argsort(failed_N, kind="stable")
        _, first = np.unique(address_N[order], return_index=True)
        kept = table.take(pa.array(order[first], pa.int64()))
        return Loaded(kept, len(tables), len(names) - len(tables), table.num_rows - kept.num_rows)

    def _read(self, name: str) -> pa.Table | None:
        if not (match := _NAME.fullmatch(name)):
            return None
        data = self.store.read(name)
        if _digest(data) != match.group(1):
            return None
        try:
            table = pq.read_table(pa.BufferReader(data))
        except (pa.ArrowInvalid, OSError):
            return None
        return table if table.schema.equals(self.schema) else None


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    clean = with_null(row)
    return clean if clean == row or clean.get("failed") else {**clean, "failed": "nan"}


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
