"""The page of a paper."""

import re

import pytest

from medsae_ray.core.papers.compare import compare
from medsae_ray.core.papers.published import PaperName, load
from medsae_ray.core.report.papers import render_papers
from tests.core.papers.evidence import evidence
from tests.core.report.page import Page


@pytest.mark.parametrize("name", ["medsae", "sail"])
def test_the_page_has_every_figure_with_everything_missing(name: PaperName) -> None:
    paper = load(name)
    page = render_papers(paper, compare(paper, None), "My run", "biomedparse", [])
    seen = Page(page)
    assert [one for one in seen.ids if one in {figure.id for figure in paper.figures}] == [f.id for f in paper.figures]
    assert {link.removeprefix("#") for link in seen.links} <= set(seen.ids) and not seen.sources
    assert page.count("not computed by this run: there is no run yet") == len(paper.figures)
    assert "None" not in seen.text


def test_a_row_has_figure_interval_n_and_the_reasons_stand_below() -> None:
    paper, change = load("sail"), "what.sae.epochs: 2, in the packaged recipe 100"
    page = render_papers(paper, compare(paper, evidence()), "My <run>", "biomedparse", [change])
    row = re.search(r'<tr id="probe.liver.dense.biomedparse">.*?</tr>', page, re.DOTALL)
    assert (
        row
        and [cell in row[0] for cell in ("0.962", "0.9000", "[0.800, 1.000]", "50 test patients", "in part")]
        == [True] * 5
    )
    assert "My &lt;run&gt;" in page and change in page and "institutions A, D and E" in page
    assert "<script" not in page and "http" not in page.replace(paper.url, "").replace("http-equiv", "")
