import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.report import text


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_missing_is_an_en_dash(value):
    assert {f(value) for f in (text.real, text.significant, text.count, text.percent)} == {text.DASH}
    assert text.interval(value, 0.5) == text.interval(0.5, value) == text.DASH


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (text.real(-0.1234), f"{text.MINUS}0.123"),
        (text.real(0.5, 2, signed=True), "+0.50"),
        (text.real(-0.001, 2, signed=True), "0.00"),
        (text.count(1234567), "1,234,567"),
        (text.percent(0.03125), "3.1\u00a0%"),
        (text.significant(0.012345), "0.0123"),
        (text.significant(1234.5), "1,234"),
        (text.significant(0.0), "0.00"),
        (text.interval(-0.1, 0.256), f"[{text.MINUS}0.10, 0.26]"),
        (text.shorten("Enlarged Cardiomediastinum", 10), "Enlarged…"),
        (text.shorten("Edema", 10), "Edema"),
    ],
)
def test_numbers_are_printed_as_a_paper_prints_them(said, expected):
    assert said == expected


@given(st.floats(-1e9, 1e9), st.integers(0, 5))
def test_a_printed_number_reads_back_within_its_rounding(value, digits):
    back = float(text.real(value, digits).replace(text.MINUS, "-").replace(",", ""))
    assert abs(back - value) <= 0.5 * 10.0**-digits + 1e-6


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0314, "= 0.031"), (0.001, "= 0.001"), (0.0009, "< 0.001"), (0.0, "< 0.001"), (None, f"= {text.DASH}")],
)
def test_a_small_probability_is_never_printed_as_zero(value, said):
    assert text.probability(value) == said
