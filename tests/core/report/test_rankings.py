"""The report's section on names ranked among five."""

from medsae_ray.core.artifacts.rankings import ArmFigures, RankingsMetrics
from medsae_ray.core.naming.ranking_rows import arm_figures
from medsae_ray.core.report.rankings import rankings_section
from medsae_ray.core.report.render import environment


def arm(ranks: list[int | None], labels: list[int]) -> ArmFigures:
    """The figures of an arm, from the ranks of names (None for an unread one) and of labels."""
    rows = [
        {"arm": "images", "feature": feature, "name": f"<b>{rank}", "letter": "A", "rank": rank,
         "ranking": "ABCDE"[feature % 5 :] + "ABCDE"[: feature % 5] if rank else None,
         "status": "ranked" if rank else "unparsed"}
        for feature, rank in [*enumerate(ranks), *((None, rank) for rank in labels)]
        if feature is not None
    ]  # fmt: skip
    rows += [{"arm": "images", "feature": None, "letter": "B", "rank": rank, "status": "ranked"} for rank in labels]
    return arm_figures(rows, "images")


def page(**arms: ArmFigures) -> str:
    usage = {"requests": 1, "prompt_tokens": 1, "cached_tokens": 0, "output_tokens": 1, "seconds": 0.0}
    found: RankingsMetrics = {"features": 9, "columns": ["age", "<i>sex"], "labels_shown": True, "arms": dict(arms),
                              "usage": usage}  # type: ignore[typeddict-item] # fmt: skip
    return environment().get_template("rankings.html.j2").render(rankings=rankings_section(found))


def test_each_arm_has_its_figures_beside_chance_and_labels() -> None:
    shown = page(images=arm([1] * 30 + [4] * 10, [1] * 20), metadata=arm([1, 3] * 10 + [None], [3] * 20))
    assert shown.count('<th scope="row">') == 2 and shown.index("images alone") < shown.index("metadata alone")
    assert "0.75" in shown and "0.60 to 0.86" in " ".join(shown.split()) and "1.00 of 20" in shown
    assert "age, &lt;i&gt;sex, the labels annotated as present" in shown and "<svg" in shown


def test_what_says_nothing_shows_no_number() -> None:
    shown = page(images=arm([1, 4] * 10, [4] * 12))
    assert "cannot be judged" in shown and "0.50" not in shown and "no better than chance" in shown
    empty = page(images=arm([], []))
    assert "no name was ranked" in empty and "<svg" not in empty
