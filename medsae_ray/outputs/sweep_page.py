"""The output of a sweep: a table on the terminal, and sweep.html."""

import pyarrow as pa
from rich.markup import escape

from medsae_ray.core.report.sweep import RANKED, render_sweep
from medsae_ray.outputs.console import sweep_table
from medsae_ray.outputs.pages import page_id, publish
from medsae_ray.runtime.run import Run
from medsae_ray.stages.sweep import SWEEP

PAGE = "sweep.html"


def publish_sweep(run: Run, table: pa.Table, left_out: int, ranking: pa.Table | None = None) -> None:
    """Print the table, and write the page that shows it, with the ranks if there are any."""
    ranks = {row["member"]: {name: row[name] for name in RANKED} for row in ranking.to_pylist()} if ranking else {}
    rows = [row | ranks.get(row["member"], dict.fromkeys(RANKED)) for row in table.to_pylist()]
    page = render_sweep(run.recipe.name, rows, left_out).encode()
    unwritten = publish(run.root, page_id(run, *SWEEP.parents(run.recipe)), {PAGE: page})
    run.console.print(sweep_table(rows), end="\n\n")
    if unwritten:
        run.console.print(f"[yellow]![/] no page: {escape(unwritten)}", highlight=False, soft_wrap=True)
