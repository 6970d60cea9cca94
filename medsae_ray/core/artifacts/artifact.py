"""Artifacts: immutable folders named by what made them and committed by their last write.

    <root>/<stage>-<12 hex of the fingerprint>/
        part-00000.parquet ...   one per shard, its footer is its receipt
        record.json              written last; without it there is no artifact

The fingerprint hashes {stage, version, what, parents' fingerprints}: no path, host or time is in it.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medsae_ray.core.artifacts.schema import conform
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import ArtifactError

RECORD = "record.json"
SHOWN_AFTER_S = (0.0, 1.0, 3.0, 6.0)
"""The seconds between the looks for files before a commit: a network disk may show them late."""
_SHOWN = 3


@dataclass(frozen=True)
class Receipt:
    """The description of one file of an artifact."""

    name: str
    shard: int
    """The number of the shard, -1 for a file that is not a part."""
    rows: int
    not_ok: dict[str, int]
    """The number of rows that are not ok, by reason."""
    sha256: str
    bytes: int
    noted: dict[str, int] = field(default_factory=dict)
    """The number of rows that are ok but have a note, by note."""


@dataclass(frozen=True)
class Record:
    """The contents of `record.json`."""

    name: str
    stage: str
    version: int
    fingerprint: str
    what: dict[str, Any]
    parents: dict[str, str]
    """The artifact's name by parent stage."""
    files: list[Receipt]
    rows: int
    not_ok: dict[str, int]
    metrics: dict[str, Any]
    """Figures beside the rows; metrics.py has their types."""
    run: dict[str, Any]
    """The times, counts of parts computed and reused, and versions, none of them part of the identity."""

    @staticmethod
    def from_json(data: bytes) -> "Record":
        """Parse the bytes of `record.json`."""
        fields = json.loads(data)
        return Record(**{**fields, "files": [Receipt(**r) for r in fields["files"]]})

    def to_json(self) -> bytes:
        """Serialise to UTF-8 JSON with sorted keys. Raises ValueError if a metric is NaN or infinite."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False).encode()


@dataclass(frozen=True)
class Artifact:
    """A committed artifact: `record`, and its rows as Arrow."""

    store: Store
    record: Record

    @property
    def name(self) -> str:
        """The folder's name: <stage>-<12 hex digits of the fingerprint>."""
        return self.record.name

    @property
    def parts(self) -> list[Receipt]:
        """The receipts of the parts, in shard order; other files are left out."""
        return sorted((f for f in self.record.files if f.shard >= 0), key=lambda f: f.shard)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the rows. Raises ArtifactError for an artifact that is not a table."""
        return part_schema(self.store, self._first())

    def part(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """Read the rows of one shard, or only some of their columns."""
        return self._parquet(part_name(shard)).read(columns)

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Read all rows, in shard order."""
        self._first()
        return pa.concat_tables(self.part(f.shard, columns) for f in self.parts).replace_schema_metadata(None)

    def file(self, prefix: str) -> bytes:
        """Read the one file whose name starts with `prefix`, checked against the record."""
        found = [f for f in self.record.files if f.name.startswith(prefix)]
        if len(found) != 1:
            raise ArtifactError(f"{self.store.uri}: {len(found)} files start with {prefix!r}, one is expected")
        data = self.store.read(found[0].name)
        if sha256(data) != found[0].sha256:
            raise ArtifactError(f"{self.store.uri}/{found[0].name} is not the file that the record describes")
        return data

    def _first(self) -> Receipt:
        if not self.parts:
            raise ArtifactError(f"{self.store.uri} holds no table; its files are {[f.name for f in self.record.files]}")
        return self.parts[0]

    def _parquet(self, name: str) -> pq.ParquetFile:
        return pq.ParquetFile(pa.BufferReader(self.store.read(name)))


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def part_schema(store: Store, part: Receipt) -> pa.Schema:
    """Return the Arrow schema of a part, of which only the footer is read: a part of patches may have gigabytes."""
    with store.open(part.name) as stream:
        return pq.read_schema(stream).remove_metadata()


def part_name(shard: int) -> str:
    """Return the file name of a shard's part: part-00000.parquet for shard 0."""
    return f"part-{shard:05d}.parquet"


def fingerprint(stage: str, version: int, what: Mapping[str, Any], parents: Iterable[str]) -> str:
    """Return the hash that names an artifact. `parents` are fingerprints, in the stage's own order."""
    identity = {"stage": stage, "version": version, "what": what, "parents": list(parents)}
    return sha256(json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def open_artifact(uri: str) -> Artifact:
    """Open a committed artifact. Raises ArtifactError if there is no record, or an unreadable one."""
    store = Store(uri.rstrip("/"))
    try:
        data = store.read(RECORD)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{uri} is not a finished artifact: it has no {RECORD}. Run its recipe again") from None
    try:
        return Artifact(store, Record.from_json(data))
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{uri}/{RECORD} cannot be read: {error}") from error


def verify(artifact: Artifact) -> list[str]:
    """Read every file again and return one line per difference from the record, [] if there is none."""
    problems = []
    for receipt in artifact.record.files:
        try:
            found = sha256(artifact.store.read(receipt.name))
        except FileNotFoundError:
            problems.append(f"{receipt.name}: missing")
            continue
        if found != receipt.sha256:
            problems.append(f"{receipt.name}: checksum {found[:12]}, {receipt.sha256[:12]} is recorded")
    return problems


@dataclass
class Draft:
    """An artifact that is being made. Safe to use from many processes and from two runs at once."""

    root: Store
    stage: str
    version: int
    what: dict[str, Any]
    parents: dict[str, Artifact]

    def __post_init__(self) -> None:
        prints = [p.record.fingerprint for p in self.parents.values()]
        self.fingerprint = fingerprint(self.stage, self.version, self.what, prints)
        self.name = f"{self.stage}-{self.fingerprint[:12]}"
        self.store = self.root.child(self.name)

    def committed(self) -> Artifact | None:
        """Return the artifact if it has been committed, by this or another run; else None."""
        return open_artifact(self.store.uri) if self.store.exists(RECORD) else None

    def writer(self, schema: pa.Schema | None) -> "PartWriter":
        """Return a writer of parts that have the Arrow schema `schema`; None takes what is computed."""
        return PartWriter(self.store, self.fingerprint, schema)

    def write_file(self, stem: str, suffix: str, data: bytes) -> Receipt:
        """Write a file that is not a part. Its name carries its content's hash, so two runs never mix their files."""
        digest = sha256(data)
        name = f"{stem}-{digest[:12]}{suffix}"
        self.store.write(name, data)
        return Receipt(name, -1, 0, {}, digest, len(data))

    def commit(self, files: list[Receipt], metrics: Mapping[str, object], run: dict[str, Any]) -> Artifact:
        """Write the record, or return the artifact that another run committed first. Raises ArtifactError if a file is
        missing or differs: a node may have written it to a disk of its own."""
        if not self.store.exists(RECORD):
            self._check_there(files)
        record = Record(
            name=self.name,
            stage=self.stage,
            version=self.version,
            fingerprint=self.fingerprint,
            what=self.what,
            parents={stage: p.name for stage, p in self.parents.items()},
            files=sorted(files, key=lambda f: f.name),
            rows=sum(f.rows for f in files),
            not_ok=total(receipt.not_ok for receipt in files),
            metrics=dict(metrics),
            run=run,
        )
        self.store.write_new(RECORD, record.to_json())
        return open_artifact(self.store.uri)

    def _check_there(self, files: list[Receipt]) -> None:
        """Check the files in one listing; a shared disk may take seconds to show another machine's writes."""
        lacking = files
        for wait in SHOWN_AFTER_S:
            time.sleep(wait)
            there = self.store.sizes()
            if not (lacking := [file for file in files if there.get(file.name) != file.bytes]):
                return
        shown = ", ".join(f"{f.name} ({_found(there.get(f.name), f.bytes)})" for f in lacking[:_SHOWN])
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise ArtifactError(
            f"{self.store.uri}: {len(lacking)} of {len(files)} files are not there as they were written: {shown}{more}"
            "; nothing is committed. If other nodes wrote them, the root is not the same folder everywhere: give one "
            "on a shared disk or an object store. If they were deleted, run it again"
        )


def _found(size: int | None, wanted: int) -> str:
    return "missing" if size is None else f"{size} of {wanted} bytes"


@dataclass(frozen=True)
class PartWriter:
    """The writer of one draft's parts; small and picklable, it travels to the workers."""

    store: Store
    fingerprint: str
    schema: pa.Schema | None

    def write(self, shard: int, table: pa.Table, expected_rows: int) -> Receipt:
        """Check `table` against the schema and the shard's rows, then make it the shard's part in one step.

        The counts of `with_notes` go into the receipt.
        """
        name = part_name(shard)
        if table.num_rows != expected_rows:
            raise ArtifactError(f"{name}: shard {shard} has {expected_rows} rows, {table.num_rows} were computed")
        noted = _noted(table.schema)
        table = conform(table, self.schema or table.schema, name)
        not_ok = count_reasons(table)
        footer = {"fingerprint": self.fingerprint, "shard": str(shard), "not_ok": json.dumps(not_ok, sort_keys=True)}
        if noted:
            footer["noted"] = json.dumps(noted, sort_keys=True)
        sink = pa.BufferOutputStream()
        metadata = {f"medsae.{key}": value for key, value in footer.items()}
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        self.store.write(name, data)
        return Receipt(name, shard, table.num_rows, not_ok, sha256(data), len(data), noted)

    def finished(
        self, expected_rows: Mapping[int, int], looked: Callable[[int], object] = lambda parts: None
    ) -> dict[int, Receipt]:
        """Return the receipts of an earlier run's parts; a torn or foreign part counts as missing.

        `looked` is called with the number of parts checked so far.
        """
        names, found = set(self.store.names()), dict[int, Receipt]()
        for place, (shard, rows) in enumerate(expected_rows.items(), 1):
            if part_name(shard) in names and (receipt := self._receipt(shard, rows)):
                found[shard] = receipt
            looked(place)
        return found

    def _receipt(self, shard: int, rows: int) -> Receipt | None:
        data = self.store.read(part_name(shard))
        try:
            parquet = pq.ParquetFile(pa.BufferReader(data))
        except pa.ArrowInvalid:
            return None
        footer = parquet.schema_arrow.metadata or {}
        ours = footer.get(b"medsae.fingerprint") == self.fingerprint.encode()
        if not ours or footer.get(b"medsae.shard") != str(shard).encode() or parquet.metadata.num_rows != rows:
            return None
        not_ok = json.loads(footer[b"medsae.not_ok"])
        return Receipt(part_name(shard), shard, rows, not_ok, sha256(data), len(data), _noted(parquet.schema_arrow))


def count_reasons(table: pa.Table) -> dict[str, int]:
    """Count the rows that are not ok, by reason; {} for a table without a `reason` column."""
    if "reason" not in table.column_names:
        return {}
    counts = table.column("reason").drop_null().value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(counts, key=lambda row: row["values"])}


def with_notes(table: pa.Table, counts: Mapping[str, int]) -> pa.Table:
    """Return `table` with counts of ok rows that have a note, as metadata and not as columns."""
    return table.replace_schema_metadata({"medsae.noted": json.dumps(counts, sort_keys=True)})


def _noted(schema: pa.Schema) -> dict[str, int]:
    counts: dict[str, int] = json.loads((schema.metadata or {}).get(b"medsae.noted", b"{}"))
    return counts


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums by word, in the order of the words."""
    summed = Counter[str]()
    for one in counts:
        summed.update(one)
    return dict(sorted(summed.items()))
