"""The tables of `medsae status`."""

from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from medsae_ray.runtime.board import DONE, FAILED, RUNNING, THERE
from medsae_ray.runtime.progress import duration, rate
from medsae_ray.runtime.status import LOST

COLOURS = {RUNNING: "cyan", DONE: "green", THERE: "green", FAILED: "red", LOST: "red"}
NUMBERS = {"fvu": "FVU {:.3f}", "l0": "L0 {:.1f}", "dead": "dead {:.0%}"}
FULL = 2
"""The runs shown stage by stage, besides running ones; each of the others has one line."""


def status_tables(runs: list[dict[str, Any]]) -> list[RenderableType]:
    """Return the tables of runs from `statuses`."""
    parts: list[RenderableType] = []
    for place, told in enumerate(runs):
        parts.append(_headline(told))
        if place < FULL or told["state"] == RUNNING:
            parts += [_stages(told), ""]
    return parts


def _headline(told: dict[str, Any]) -> str:
    age = duration(told["age_s"])
    said = {
        RUNNING: f"seen {age} ago",
        LOST: f"it was killed, or its machine is gone: no sign of it for {age}; run it again to go on",
    }.get(told["state"], f"{age} ago")
    error = f"\n  {escape(told['error'])}" if told.get("error") else ""
    where = (
        f"started {told['start'][:19].replace('T', ' ')} UTC on {escape(str(told['host']))} as process {told['pid']}"
    )
    return f"[bold]{escape(told['recipe'])}[/] {told['run']}: {_coloured(told['state'])}, {said}; {where}{error}"


def _coloured(state: str) -> str:
    return f"[{colour}]{state}[/]" if (colour := COLOURS.get(state)) else state


def _stages(told: dict[str, Any]) -> Table:
    table = Table("stage", "state", box=None, header_style="bold")
    for column in ("done", "rows", "not ok", "rate", "time", "left"):
        table.add_column(column, justify="right")
    table.add_column("")
    for stage in told["stages"]:
        table.add_row(*_row(stage, told))
    return table


def _row(stage: dict[str, Any], told: dict[str, Any]) -> tuple[str, ...]:
    of = f" of {stage['total']:,}" if stage["total"] is not None else ""
    counted = f"{stage['done']:,}{of} {stage['unit']}" if of or stage["done"] else ""
    numbers = [form.format(stage["numbers"][name]) for name, form in NUMBERS.items() if name in stage["numbers"]]
    state = LOST if told["state"] == LOST and stage["state"] == RUNNING else stage["state"]
    left = ""
    if state == RUNNING and stage["eta"]:
        left = duration(max(0.0, (datetime.fromisoformat(stage["eta"]) - datetime.now(UTC)).total_seconds()))
    return (
        stage["name"],
        _coloured(state),
        counted,
        f"{stage['rows']:,}" if stage["rows"] else "",
        f"{stage['not_ok']:,}" if stage["not_ok"] else "",
        rate(stage["rate"], stage["rate_unit"]),
        duration(stage["seconds"]),
        left,
        escape(", ".join(numbers) or stage["text"]),
    )
