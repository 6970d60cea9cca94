import csv
import io
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medsae_ray.core.browser.access import Access
from medsae_ray.core.browser.site import KINDS, Site
from medsae_ray.core.report.data import ReportData
from tests.core.browser.made import IMAGES, image_ids, made
from tests.core.report.named import full_naming
from tests.core.report.page import Page

EVIL = "<img src=x onerror=alert(1)>"
FORBIDDEN = re.compile(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?! src=\")|https?:|[\"'(]data:")
"""Style and script within a page, and addresses beyond it."""


def files(site: Site) -> dict[str, bytes]:
    return {path: data for path in site.paths() if (data := site.file(path)) is not None}


def html(found: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    yield from ((path, data.decode()) for path, data in found.items() if path.endswith(".html"))


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    return files(Site(made()))


def evil_report() -> ReportData:
    """Markup in every text that a model or a table may give."""
    report = full_naming(features=12)
    assert report.naming

    def evil(table: pa.Table) -> pa.Table:
        for name in ("name", "definition", "reason", "best_control", "best_label"):
            if name in table.column_names:
                at = table.column_names.index(name)
                texts = [EVIL if value is not None else None for value in table[name].to_pylist()]
                table = table.set_column(at, table.schema.field(name), pa.array(texts, pa.string()))
        return table

    naming = replace(report.naming, names=evil(report.naming.names), scores=evil(report.naming.scores))
    return replace(report, title=EVIL, atlas=evil(report.atlas), labels=[EVIL, *report.labels[1:]], naming=naming)


def test_every_link_and_source_leads_to_a_file_of_the_site(whole: dict[str, bytes]) -> None:
    checked = 0
    for path, content in html(whole):
        page = Page(content)
        for target in (*page.links, *page.sources):
            place, _, anchor = target.partition("#")
            if place:
                file = posixpath.normpath(posixpath.join(posixpath.dirname(path), place))
                assert file in whole, f"{path} leads to {target}"
                if anchor and file.endswith(".html"):
                    assert anchor in Page(whole[file].decode()).ids or file == "compare.html", f"{path}: {target}"
            else:
                assert anchor in page.ids, f"{path} has no {target}"
            checked += 1
    assert checked > 1000


def test_every_page_keeps_to_its_policy_and_says_what_it_is_not_for(whole: dict[str, bytes]) -> None:
    for path, content in html(whole):
        assert '<meta http-equiv="Content-Security-Policy" content="default-src &#39;self&#39;">' in content, path
        assert "Not for clinical use" in content
        assert not re.search(
            r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?! src=\")|https?:|[\"'(]data:", content
        ), path
        assert len(re.findall(r"<script", content)) <= 2


def test_the_script_makes_no_markup_of_texts(whole: dict[str, bytes]) -> None:
    script = whole["browser.js"].decode()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", script)


def test_a_name_that_is_markup_stays_text() -> None:
    report = evil_report()
    found = files(Site(made(report=report)))
    for path, content in html(found):
        page = Page(content)
        assert "x" not in page.sources and not re.search(r"<img[^>]*onerror", content), path
    assert EVIL in Page(found["index.html"].decode()).text and EVIL in Page(found["feature/1.html"].decode()).text
    columns = json.loads(found["data/features.js"].decode().split("window.medsaeFeatures = ")[1].rstrip(";\n"))
    assert EVIL in columns["name"]


def test_no_file_and_no_name_of_one_tells_an_id(whole: dict[str, bytes]) -> None:
    table = pq.read_table(io.BytesIO(whole["exports/features.parquet"]))
    assert set(table["top_images"].combine_chunks().flatten().to_pylist()) <= set(range(IMAGES))
    for path, data in whole.items():
        assert b"patient0" not in data and "patient0" not in path, path
    assert "patient0" not in json.dumps(table.to_pylist())
    assert any(image_id.startswith("patient0") for image_id in image_ids())


@pytest.mark.parametrize(("access", "shown"), [("thumbnails", {"thumb"}), ("none", set())])
def test_images_are_left_out_by_a_switch(access: Access, shown: set[str]) -> None:
    site = Site(made(access=access))
    found = files(site)
    folders = {path.partition("/")[0] for path in found}
    assert folders & {"thumb", "image", "shade", "heat"} == shown
    for path, content in html(found):
        sources = Page(content).sources
        assert access == "thumbnails" or not any("thumb" in source for source in sources), path
        assert not any("image/" in place for place in (*sources, *Page(content).links)), path
    assert site.file("image/3.html") is site.file("image/3.png") is None
    assert (site.file("thumb/3.jpg") is None) == (access == "none")
    data = json.loads(re.search(r"\] = (\{.*\});", found["data/1.js"].decode())[1])
    assert bool(data["images"]) == (access == "thumbnails")


def test_an_image_that_is_unlike_the_run_is_warned_of_and_no_other() -> None:
    odd, usual = image_ids()[3:5]
    data = replace(made(), unlike=frozenset({odd}))
    site = Site(data)
    pages = {one: site.file(f"image/{data.images.number(one)}.html") or b"" for one in (odd, usual)}
    assert b"unlike the others of the run" in pages[odd] and b"Features on it" in pages[usual]
    assert b"unlike the others of the run" not in pages[usual]


def test_only_paths_of_the_site_have_files() -> None:
    site = Site(made())
    for path in (
        *("", "feature/12.html", "feature/007.html", "feature/-1.html", "image/60.png", "thumb/1000000000.jpg"),
        *("../pyproject.toml", "page-1.html", "page-2.html", "feature/1", "data/features", "INDEX.HTML", "map.html"),
        *("heat/1-2.png", "shade/1.png", "feature/1.html/..", "style.css\n", "feature/1.html\n", "feature/\u0661.html"),
    ):
        assert site.file(path) is None, path
    assert {path.rpartition(".")[2] for path in site.paths()} <= set(KINDS)


def test_the_service_has_a_page_of_images_that_no_feature_shows() -> None:
    site = Site(made())
    assert all(site.file(f"image/{number}.html") for number in range(IMAGES))
    assert site.file("image/5.html") == site.file("image/5.html")


def test_a_page_of_the_grid_follows_the_last() -> None:
    site = Site(made(features=130, report=full_naming(features=130)))
    names = [path for path in site.paths() if path.startswith(("index", "page"))]
    assert names == ["index.html", "page-2.html", "page-3.html"]
    listed = [re.findall(r'<li class="tile" data-feature="(\d+)"', site.file(name).decode()) for name in names]
    assert [len(tiles) for tiles in listed] == [60, 60, 10]
    assert {int(feature) for tiles in listed for feature in tiles} == set(range(130))
    assert 'href="index.html" rel="prev"' in site.file("page-2.html").decode()


def test_exports_cite_the_artifacts_and_hold_no_formula() -> None:
    report = full_naming(features=12)
    at = report.atlas.column_names.index("name")
    names = ["=1+1", "@SUM(A1)", *report.atlas["name"].to_pylist()[2:]]
    atlas = report.atlas.set_column(at, report.atlas.schema.field("name"), pa.array(names))
    site = Site(made(report=replace(report, atlas=atlas)))
    text = site.file("exports/features.csv").decode()
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert "Not for clinical use" in head[0] and any("atlas-0123456789ab" in line for line in head)
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    assert len(rows) == 12 and {"'=1+1", "'@SUM(A1)"} <= {row["name"] for row in rows}
    metadata = pq.read_schema(io.BytesIO(site.file("exports/features.parquet"))).metadata
    assert metadata[b"sae"] == b"sae-3f9a1c20" and b"clinical" in metadata[b"notice"]


def test_a_small_group_is_not_counted() -> None:
    report = full_naming(features=12)
    at = report.atlas.column_names.index("auroc_positives")
    few = report.atlas.set_column(at, report.atlas.schema.field("auroc_positives"), pa.array([3] * 12))
    site = Site(made(report=replace(report, atlas=few)))
    content = Page(site.file("feature/1.html").decode()).text
    assert "< 10 with" in content and "3 with" not in content
    assert pq.read_table(io.BytesIO(site.file("exports/features.parquet")))["auroc_positives"].null_count == 12
