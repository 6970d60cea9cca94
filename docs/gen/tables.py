"""Tables of artifacts, codes of warnings and the hierarchy of errors, from the modules that declare them."""

import inspect
from collections.abc import Callable

import pyarrow as pa

from medsae_ray import errors as all_errors
from medsae_ray.core.artifacts import likeness, monosemanticity, rankings, recovery, retrieval, schema
from medsae_ray.core.artifacts.warnings import CODES
from medsae_ray.core.naming import ledger, verdict

EXAMPLE = {
    "labels": ["LABEL"],
    "metadata": ["COLUMN"],
    "studies": True,
    "dim": 512,
    "grid": None,
    "patches": True,
    "n_labels": 14,
}
"""What the functions of schema.py are called with here."""
NOTES = {
    "manifest": "One column `y_LABEL` for each label and one `m_COLUMN` for each column of metadata.",
    "embeddings": "With D = 512, and without patches.",
    "activations": "`patch_active` is there only with patches.",
    "features": "With 14 labels. The artifact `dataset_features` has the same columns for each dataset.",
    "atlas": "With 14 labels.",
}
ELSEWHERE: dict[str, Callable[[], pa.Schema]] = {
    "recovery": recovery.rows,
    "monosemanticity": monosemanticity.rows,
    "retrieval": retrieval.rows,
    "likeness": likeness.rows,
    "rankings": rankings.rows,
    "scores": verdict.scores,
    "answers": ledger.answers_schema,
    "replies": ledger.replies,
}
"""Tables that the module of their makers declares; the last two are those of the ledger too."""


def artifacts() -> str:
    """A table of columns for each table that a run writes."""
    return "\n".join(_table(name, make) for name, make in {**_declared(), **ELSEWHERE}.items())


def warnings() -> str:
    """Every code with its meaning."""
    rows = [f"| `{code}` | {_cell(text)} |" for code, text in CODES.items()]
    return "\n".join(["| code | meaning and remedy |", "|---|---|", *rows])


def errors() -> str:
    """The hierarchy, as the module of errors draws it."""
    _, _, tree = inspect.cleandoc(all_errors.__doc__ or "").partition("\n\n")
    return f"```text\n{tree}\n```"


def _declared() -> dict[str, Callable[..., pa.Schema]]:
    """The functions of schema.py that make a schema."""
    made = inspect.getmembers(schema, inspect.isfunction)
    makers = [(name, f) for name, f in made if not name.startswith("_") and f.__module__ == schema.__name__]
    found = {name: f for name, f in makers if inspect.signature(f).return_annotation is pa.Schema and name != "conform"}
    return dict(sorted(found.items(), key=lambda item: item[1].__code__.co_firstlineno))


def _table(name: str, make: Callable[..., pa.Schema]) -> str:
    wanted = {key: EXAMPLE[key] for key in inspect.signature(make).parameters}
    text = [inspect.cleandoc(make.__doc__ or ""), *([NOTES[name]] if name in NOTES else [])]
    rows = []
    for field in make(**wanted):
        rows.append(f"| `{field.name}` | `{_kind(field.type)}` | {'yes' if field.nullable else ''} |")
    head = [f"## `{name}`", "", "\n\n".join(_cell(part) for part in text), ""]
    return "\n".join([*head, "| column | type | may be null |", "|---|---|---|", *rows, ""])


def _kind(kind: pa.DataType) -> str:
    return str(kind).replace("item: ", "").replace(" not null", "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
