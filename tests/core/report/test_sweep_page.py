import json
import re

import pytest

from medsae_ray.core.report.pareto import Point, pareto_plot, shade
from medsae_ray.core.report.sweep import render_sweep
from medsae_ray.core.sae.ranking import Failure, ranked, result_row
from tests.core.report.page import Page
from tests.core.sae.test_ranking import record

EVIL = "<script>alert('x')</script>"


def points(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(i + 1, f"point {i}", l0, fvu, 0.1, pareto=i < 2) for i, (l0, fvu) in enumerate(pairs)]


def circles(plot: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', plot)]


def test_a_sparser_sae_stands_further_left_and_a_better_one_lower() -> None:
    plot = pareto_plot(points((5.0, 0.4), (40.0, 0.1), (80.0, 0.7)))
    by_title = dict(zip(re.findall(r"<title>(point \d)", plot), circles(plot), strict=True))
    (x0, y0), (x1, y1), (x2, y2) = (by_title[f"point {i}"] for i in range(3))
    assert x0 < x1 < x2 and y1 > y0 > y2
    assert plot.count("pareto") == 1 + 2 and 'class="curve front"' in plot


def test_an_fvu_above_the_axis_is_drawn_at_its_edge() -> None:
    plot = pareto_plot(points((5.0, 0.4), (40.0, 0.1), (80.0, 50.0)))
    assert min(y for _, y in circles(plot)) == 16.0
    assert ">1.0<" in plot and ">50.0<" not in plot


@pytest.mark.parametrize("pairs", [[(3.0, 0.2)], [(0.0, 1.0)], [(3.0, 0.2), (3.0, 0.2)], [(0.02, 0.5), (2000.0, 0.5)]])
def test_few_or_extreme_saes_are_drawn_inside(pairs: list[tuple[float, float]]) -> None:
    found = circles(pareto_plot(points(*pairs)))
    assert len(found) == len(pairs) and all(52 <= x <= 846 and 16 <= y <= 390 for x, y in found)


def test_colours_step_with_the_dead_share() -> None:
    assert [shade(dead) for dead in (0.0, 0.05, 0.1, 0.3, 0.5, 1.0)] == [f"dead-{i}" for i in (0, 0, 1, 2, 3, 4)]


def test_the_page_holds_everything_and_asks_nothing_of_a_network() -> None:
    table = ranked(
        [
            result_row(0, {"k": 8}, record(0.2, 8.0, "sae-b")),
            result_row(1, {"k": EVIL}, Failure("diverged", EVIL)),
        ]
    )
    content = render_sweep(EVIL, table.to_pylist(), 4)
    Page(content)
    assert not re.search(r"https?://|url\(|@import|<link|<script|<iframe", content)
    assert "sae-b" in content and "k 8" in content and "combinations left out" in content
    assert content.count("&lt;script&gt;") == 4
    assert "diverged" in content and json.dumps(EVIL) not in content


def test_a_page_without_any_sae_says_so() -> None:
    content = render_sweep("x", ranked([result_row(0, {"k": 8}, Failure("memory", "too wide"))]).to_pylist(), 0)
    assert content.count("No SAE was trained.") == 2 and "too wide" in content
