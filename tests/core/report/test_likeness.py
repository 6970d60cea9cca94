"""The report's section on images that are unlike the run."""

from medsae_ray.core.artifacts.likeness import LikenessSummary, UnlikeShare
from medsae_ray.core.report.render import environment

SHARE = UnlikeShare(patients=975, share=0.0231, low=0.0154, high=0.0345)


def page(likeness: LikenessSummary) -> str:
    class Data:
        pass

    data = Data()
    data.likeness = likeness  # type: ignore[attr-defined]
    return " ".join(environment().get_template("likeness.html.j2").render(data=data).split())


def test_the_share_of_test_patients_stands_beside_the_threshold() -> None:
    one = LikenessSummary(level=0.98, threshold=8.14, fitted=2529, reference=623, detection=SHARE)
    text = page(one)
    assert "further than 8.1 from those of the 2,529 images" in text and "lets 98 % of new" in text
    assert "2.3 %" in text and "1.5 % to 3.5 %" in text and text.count("<tr>") == 2
    several = page({**one, "by_dataset": {"<one>": SHARE, "two": SHARE}})
    assert several.count("<tr>") == 4 and "test, &lt;one&gt;" in several


def test_without_a_threshold_it_says_why() -> None:
    none = UnlikeShare(patients=12, share=None, low=None, high=None)
    text = page(LikenessSummary(level=0.98, threshold=None, fitted=36, reference=12, detection=none))
    assert "12 patients of the split naming cannot say" in text and "<table" not in text
