"""The report's section on similar images."""

import io

from PIL import Image

from medsae_ray.core.artifacts.retrieval import RetrievalFigures, RetrievalMetrics
from medsae_ray.core.report.render import environment
from medsae_ray.core.report.retrieval import precision_chart, retrieval_section


def figures(method: str, k: int | None, precision: float | None) -> RetrievalFigures:
    chance, labels = (None, 0) if precision is None else (0.2, 3)
    return {"method": method, "k": k, "cosine": precision, "precision_10": precision, "average_precision": precision,
            "chance": chance, "labels": labels}  # fmt: skip


ROWS = [figures("sparse", 1, 0.4), figures("sparse", 5, 0.8), figures("sparse", 50, None), figures("dense", 5, 0.6),
        figures("whole", None, 0.9), figures("random", None, 0.2)]  # fmt: skip


def metrics(rows: list[RetrievalFigures]) -> RetrievalMetrics:
    example = {"image_id": "<a>", "k": 5, "sparse": ["b", "gone"], "whole": ["b"]}
    return {"references": 20, "candidates": 90, "patients": 40, "always_active": 0, "methods": rows,
            "examples": [example]}  # type: ignore[typeddict-item] # fmt: skip


def thumbnail(image_id: str) -> bytes | None:
    stream = io.BytesIO()
    Image.new("L", (8, 8), 90).save(stream, "PNG")
    return None if image_id == "gone" else stream.getvalue()


def page(rows: list[RetrievalFigures]) -> str:
    return environment().get_template("retrieval.html.j2").render(retrieval=retrieval_section(metrics(rows), thumbnail))


def test_it_has_a_row_for_each_search_with_figures_and_the_images_that_two_found() -> None:
    shown = page(ROWS)
    assert shown.count('<th scope="row">') == 5 and "0.80" in shown
    assert shown.count("<figure title") == 5 and shown.count("data:image/jpeg") == 4 and "no image" in shown
    assert "&lt;a&gt;" in shown and "<a>" not in shown


def test_a_size_without_figures_is_no_point_of_the_chart() -> None:
    chart = precision_chart(ROWS)
    assert chart is not None and chart.count("<circle") == 3 and "random images" in chart


def test_without_labels_there_is_no_chart() -> None:
    assert precision_chart([figures("sparse", 1, None)]) is None
    assert "No search has ten references" in page([figures("sparse", 1, None)])
