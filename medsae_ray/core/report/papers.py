"""The page of a paper: each published figure, what the run has in its place, and why the two may differ."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, Self

from medsae_ray.core.papers.compare import PaperRow
from medsae_ray.core.papers.published import Paper
from medsae_ray.core.report import text
from medsae_ray.core.report.render import environment, style


def render_papers(paper: Paper, rows: Sequence[PaperRow], run: str, encoder: str, changes: Sequence[str]) -> str:
    """Render the rows of `compare`, in their order; `changes` are the run's differences from the packaged recipe."""
    groups = [Group.of(title, list(own)) for title, own in groupby(rows, key=lambda row: row["group"])]
    return (
        environment()
        .get_template("papers.html.j2")
        .render(
            paper=paper,
            run=run,
            encoder=encoder,
            changes=changes,
            groups=groups,
            total=len(rows),
            have=sum(row["here"] is not None for row in rows),
            comparable={word: sum(row["comparable"] == word for row in rows) for word in ("yes", "in part", "no")},
            here=here,
            published=published,
            papers_style=style("papers.css"),
        )
    )


class Group(NamedTuple):
    """Figures of one kind."""

    title: str
    rows: list[PaperRow]
    reasons: dict[str, list[str]]
    """Why figures may differ -> these, in words."""

    @classmethod
    def of(cls, title: str, rows: list[PaperRow]) -> Self:
        """Gather the reasons of some rows."""
        reasons: dict[str, list[str]] = {}
        for row in rows:
            said = reasons.setdefault(row["differs"], [])
            said += [row["figure"]] if row["figure"] not in said else []
        return cls(title, rows, reasons)


def published(row: PaperRow) -> str:
    """Write a published figure as it was published."""
    value = row["published"]
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def here(row: PaperRow) -> str:
    """Write a run's figure."""
    value = row["here"]
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else text.significant(value, 4)
