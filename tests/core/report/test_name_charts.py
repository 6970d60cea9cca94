import math
import re

from medsae_ray.core.report import name_charts
from medsae_ray.core.report.charts import Mark
from medsae_ray.core.report.name_charts import Role, Row
from medsae_ray.core.report.text import DASH

EVIL = "<b>a role that nobody knows</b>"


def test_a_roc_curve_starts_at_the_origin_and_ends_at_one_and_one():
    path = re.search(r'curve" d="([^"]*)"', name_charts.roc([(0, 0), (0.5, 1), (1, 1)], 0.75)).group(1)
    assert path == "M34.0 156.0 L112.0 6.0 L190.0 6.0"


def test_a_roc_without_points_has_no_curve():
    assert "<path" not in name_charts.roc([], math.nan)


def test_each_answer_is_a_stroke_and_a_missing_one_is_none():
    page = name_charts.strip([Role("equal", False, [0.1, math.nan, 0.5, 0.9])])
    assert page.count("<path") == 3
    assert "answers silent" in page and ">2 of 3<" in page


def test_a_role_without_answers_has_a_dash():
    assert f">{DASH}<" in name_charts.strip([Role("equal", True, [math.nan])])


def test_strokes_stand_at_their_p_yes():
    page = name_charts.strip([Role("equal", True, [0.0, 1.0])], width=298)
    assert re.findall(r'<path d="M([\d.]+) ', page) == ["132.0", "232.0"]


def test_strings_are_escaped_in_charts():
    rows = [Row(EVIL, Mark(0.7, 0.6, 0.8), EVIL)]
    for page in (name_charts.strip([Role(EVIL, True, [0.4])]), name_charts.auroc_rows(rows)):
        assert "<b>" not in page and "&lt;b&gt;" in page


def test_a_row_without_value_has_no_dot():
    page = name_charts.auroc_rows([Row("ceiling", Mark(math.nan, math.nan, math.nan), DASH)])
    assert "<circle" not in page and DASH in page
