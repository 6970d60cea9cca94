"""The tables of a plan."""

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from medsae_ray.cluster.packing import spelt


def plan_tables(plan: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the output of `medsae plan`."""
    table = Table("stage", "artifact", "resources", box=None, header_style="bold")
    for column in ("rows", "questions", "disk", "time"):
        table.add_column(column, justify="right")
    for stage in plan["stages"]:
        table.add_row(*_row(stage), style="dim" if stage["there"] else None)
    yield table
    yield from ("", *map(escape, _lines(plan)))


def _row(stage: dict[str, Any]) -> Iterator[str]:
    yield stage["stage"]
    if stage["there"]:
        yield f"{stage['artifact']} (there)"
    elif stage["artifact"]:
        yield stage["artifact"]
    else:
        yield f"named after {', '.join(stage['after'])}" if stage["after"] else "not known"
    yield escape(" + ".join(f"{one['count']} x {one['each']}" for one in stage["resources"]))
    yield "" if stage["rows"] is None else f"{stage['rows']:,}"
    yield "" if stage["questions_at_most"] is None else f"at most {stage['questions_at_most']:,}"
    yield size(stage["bytes"])
    yield "" if stage["there"] else duration(stage["seconds"]) or "no rate known"


def _lines(plan: dict[str, Any]) -> Iterator[str]:
    count, paper = plan["images"]["total"], plan["paper"]
    bound = "" if plan["images"]["exact"] else "at most "
    bound = "as in the paper, " if paper and count == paper["images"] else bound
    yield "images: " + ("not known before the manifest is made" if count is None else f"{bound}{count:,}")
    if plan["saes"] and any(stage["stage"] == "sweep" and not stage["there"] for stage in plan["stages"]):
        yield f"the sweep trains {plan['saes']} SAEs"
    if plan["prompts_for_names_at_most"] is not None:
        prompts, questions = plan["prompts_for_names_at_most"], plan["questions_at_most"]
        yield f"the model is asked at most {prompts:,} times for a name, and at most {questions or 0:,} questions"
    yield f"disk of the artifacts to make, as far as it is known: {size(plan['bytes']) or 'not known'}"
    unknown = plan["seconds_unknown_for"]
    left = f"; no rate known for {', '.join(unknown)}" if unknown else ""
    yield f"time at the rates of earlier runs below this root: {duration(plan['seconds']) or 'not known'}{left}"
    nodes = [f"{node['name']} {spelt(node['resources'])}" for node in plan["place"]["nodes"]]
    yield f"{'cluster' if plan['place']['joined'] else 'without a cluster'}: {', '.join(nodes)}"
    for held in plan["place"]["held_by"]:
        yield f"taken by Ray Serve: {held}"
    yield from _of_paper(paper) if paper else ()
    yield from plan["waits"]
    yield from (f"in the way: {problem}" for problem in plan["problems"])
    if not plan["problems"]:
        yield "nothing is in the way"


def _of_paper(paper: dict[str, Any]) -> Iterator[str]:
    """Say what a paper needs, and where to get what is missing."""
    yield f"{paper['title']}: {paper['figures']} published figures, each with a row in papers.html beside the report"
    words = {"there": "there", "missing": "missing", "fetched": "fetched at its first use"}
    for need in paper["needs"]:
        place = f"{need['key']} is {need['given']}" if need["given"] else f"set {need['key']}"
        yield f"{words[need['state']]}: {need['what']}; {place}"
        if need["state"] != "there":
            yield f"   from {need['page']}: {need['access']}"
            yield f"   size: {need['size']}; files: {need['files']}"


def size(count: float | None) -> str:
    """Format bytes; "" for None."""
    if count is None:
        return ""
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= of:
            return f"{count / of:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB"


def duration(seconds: float | None) -> str:
    """Format seconds; "" for None."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
