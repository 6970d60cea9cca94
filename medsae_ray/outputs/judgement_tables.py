"""The tables of `medsae judgements`: what readers said of each feature, and how far they agree."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from medsae_ray.core.judgements.agreement import Agreement, Kappa
from medsae_ray.core.judgements.record import VOTES, Judgement
from medsae_ray.outputs.console import plain_table


def judgement_table(judgements: Sequence[Judgement], verdicts: Mapping[int, str | None]) -> Table:
    """Make a table with a row for each feature that was judged, its verdict beside what readers said."""
    table = plain_table("name", "verdict", "better names", right=("feature", *VOTES, "no finding", "notes"))
    of_feature: dict[int, list[Judgement]] = {}
    for one in judgements:
        of_feature.setdefault(one.feature, []).append(one)
    for feature, said in sorted(of_feature.items()):
        kinds = Counter(one.kind for one in said)
        votes = Counter(one.value for one in said if one.kind == "vote")
        better = ", ".join(dict.fromkeys(str(one.value) for one in said if one.kind == "rename"))
        counts = [*(votes[vote] for vote in VOTES), kinds["not_a_finding"], kinds["note"]]
        texts = [escape(said[-1].name or "–"), verdicts.get(feature) or "–", escape(better)]
        table.add_row(*texts, str(feature), *map(str, counts))
    return table


def agreement_table(found: Agreement) -> Table:
    """Make the table of kappas."""
    table = plain_table("agreement of", right=("kappa", "low", "high", "same vote", "features"))
    rows = [(f"all {len(found.votes)} readers (Fleiss)", found.readers)] if found.readers else []
    rows += [(f"{a} and {b} (Cohen)", kappa) for a, b, kappa in found.pairs]
    rows += [(f"{reader} and the model (Cohen)", kappa) for reader, kappa in found.model]
    for who, kappa in rows:
        table.add_row(escape(who), *_cells(kappa))
    return table


def _cells(kappa: Kappa) -> list[str]:
    figures = ["–" if figure is None else f"{figure:.2f}" for figure in (kappa.kappa, kappa.low, kappa.high)]
    return [*figures, "–" if kappa.agree is None else f"{kappa.agree:.0%}", str(kappa.features)]
