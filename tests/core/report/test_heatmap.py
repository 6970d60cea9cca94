import math

from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.report.heatmap import MISSING, Column, colour, heat_map, legend
from medsae_ray.core.report.text import MINUS

COLUMNS = [Column(7, [0.5, -0.1], "A", True), Column(9, [math.nan, 0.3], "B", False)]


def test_the_colour_scale_is_centred_and_ends_in_blue_and_red():
    assert colour(0.0, 0.8) == "#f7f7f7"
    assert (colour(-0.8, 0.8), colour(0.8, 0.8), colour(math.nan, 0.8)) == ("#053061", "#67001f", MISSING)


@given(st.floats(-2, 2))
def test_the_sign_decides_between_blue_and_red(value):
    red, _, blue = bytes.fromhex(colour(value, 1.0)[1:])
    assert (red >= blue) if value >= 0 else (blue >= red)


def test_each_label_and_feature_has_a_cell_and_the_best_ones_are_outlined():
    page = heat_map(["A", "B"], COLUMNS, 0.5)
    assert page.count("<rect") == 4 and page.count('class="best"') == 2 and page.count(MISSING) == 1
    assert "<title>A 7: +0.50</title>" in page


def test_only_features_with_a_card_are_links():
    page = heat_map(["A", "B"], COLUMNS, 0.5)
    assert 'href="#feature-7"' in page and 'href="#feature-9"' not in page and ">9</text>" in page


def test_a_large_map_leaves_the_hover_texts_of_its_cells_out():
    labels = [f"label {i}" for i in range(60)]
    page = heat_map(labels, [Column(i, [0.1] * 60, "label 0", False) for i in range(50)], 0.5)
    assert page.count("<rect") == 3000 and page.count("<title>") == 60


def test_the_legend_names_both_ends_and_the_middle():
    assert all(f">{said}</text>" in legend(0.6) for said in (f"{MINUS}0.6", "0", "+0.6"))
