import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medsae_ray.core.report import charts
from medsae_ray.core.report.text import DASH, MINUS

finite = st.floats(-1e6, 1e6)


@given(finite, finite)
@example(0.0, 5e-324)
@example(0.3, 0.3)
def test_ticks_cover_the_range_with_few_round_steps(a, b):
    low, high = sorted((a, b))
    marks = charts.ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-6)
    assert marks[0] <= low + slack and marks[-1] >= high - slack
    assert 2 <= len(marks) <= 7


def test_positions_are_linear_and_stay_on_the_axis():
    x = charts.linear(0, 10, 100, 200)
    assert [x(v) for v in (-5, 0, 5, 10, 99)] == [100, 100, 150, 200, 200]


def test_a_histogram_has_one_bar_per_filled_bin_and_the_tallest_is_named():
    page = charts.histogram([0, 3, 0, 1200, *[0] * 28])
    assert page.count('class="bar"') == 2
    assert "tallest bar: 1,200 images" in page


def test_an_interval_is_drawn_from_its_low_to_its_high_end():
    page = charts.auroc_plot([charts.Mark(0.75, 0.5, 1.0)], width=112)
    assert re.search(r'whisker sae" x1="56\.0" y1="15\.0" x2="106\.0"', page)
    assert 'cx="81.0"' in page


def test_a_value_without_interval_is_a_dot_without_whisker():
    page = charts.auroc_plot([charts.Mark(0.75, math.nan, math.nan)])
    assert "<circle" in page and "whisker" not in page


def test_a_curve_is_lifted_where_a_value_is_missing():
    page = charts.panel([0, 1, 2, 3, 4], [charts.Series("R²", [0.1, 0.2, None, math.nan, 0.4])])
    path = re.search(r' d="([^"]*)"', page).group(1)
    assert [c for c in path if c.isalpha()] == ["M", "L", "M"]
    assert "R² 0.400" in page


@pytest.mark.parametrize("values", [[], [math.nan], [None]])
def test_a_panel_without_values_says_so(values):
    assert "No epoch was logged" in charts.panel(list(range(len(values))), [charts.Series("loss", values)])


def test_a_single_epoch_is_a_dot_on_its_value():
    assert charts.panel([0], [charts.Series("loss", [0.3])]).count("<circle") == 1


def test_correlations_keep_long_names_in_the_hover_and_escape_them():
    row = charts.LabelCorrelation("<b>a very long name of a label</b>", -0.31, -0.4, -0.2)
    page = charts.correlations([row], limit=0.5)
    assert "<b>" not in page and "&lt;b&gt;a very long name of a label&lt;/b&gt;</title>" in page
    assert f"{MINUS}0.31" in page and 'class="negative"' in page


def test_an_undefined_correlation_is_an_en_dash_without_a_bar():
    page = charts.correlations([charts.LabelCorrelation("Edema", math.nan, math.nan, math.nan)], limit=0.5)
    assert f">{DASH}<" in page and "<rect" not in page
