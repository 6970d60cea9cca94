from dataclasses import replace

from medsae_ray.core.report.grouped import one_of_each
from medsae_ray.core.report.render import render_report
from tests.core.report.sample import full


def rows(*features: int) -> list[dict[str, int]]:
    return [{"feature": feature} for feature in features]


def test_a_group_is_shown_once_where_its_first_is():
    shown = one_of_each(rows(5, 9, 2, 7), [[2, 5, 40], [7, 9]], wanted=())
    assert [row["feature"] for row in shown.rows] == [5, 9]
    assert shown.stands_for == {5: [2, 40], 9: [7]}


def test_a_findings_feature_stands_for_its_group():
    shown = one_of_each(rows(5, 9, 2, 7), [[2, 5, 40]], wanted={2, 7})
    assert [row["feature"] for row in shown.rows] == [2, 9, 7]
    assert shown.stands_for == {2: [5, 40]}
    assert shown.cards([2, 7]) == {2: 2, 5: 2, 40: 2, 7: 7}


def test_without_groups_nothing_changes():
    assert one_of_each(rows(3, 1, 2), [], wanted={1}) == (rows(3, 1, 2), {})


def test_the_page_has_one_card_of_a_group_and_says_how_many_it_stands_for():
    data = full()
    first, second, *others = [finding.feature for finding in data.findings]
    alike = sorted(
        {first, second, *[row["feature"] for row in data.atlas.to_pylist() if row["best_r"] is not None][:30]}
    )
    page = render_report(replace(data, copies=[alike]))
    shown = [feature for feature in alike if f'id="feature-{feature}"' in page]
    assert len(shown) == 1 and shown[0] in (first, second, *others)
    assert f"and {len(alike) - 1}\n      copies of it" in page
    # The other findings of the group lead to the same card.
    for feature in (first, second):
        assert f'<a href="#feature-{shown[0]}">{feature}</a>' in page
    assert "copies of it" not in render_report(data)
