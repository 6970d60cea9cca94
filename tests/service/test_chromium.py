"""The browser's pages in a real browser: from a folder, and behind the service."""

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from medsae_ray.core.browser.folder import write_folder
from medsae_ray.core.browser.shade import shade
from medsae_ray.core.browser.site import Site
from medsae_ray.core.images.dicom import GreyValues
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from tests.conftest import free_port
from tests.core.browser.made import image_ids, made, table
from tests.core.report.named import full_naming
from tests.core.report.sample import LABELS
from tests.service.conftest import Small
from tests.support.chromium import Watched, chromium, soon

PLACES = ("index.html", "feature/1.html", "feature/5.html", "run.html", "labels.html", "map.html", "compare.html#f=1,2")
EVIL = "<img src=x onerror=alert(1)>"
FEATURES = 130
DEEP = image_ids()[7]
HOUNSFIELD = np.linspace(-1000, 1000, 96)[:, None] + np.linspace(0, 300, 96)[None]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of pages, in which every third name is markup."""
    report = full_naming(features=FEATURES)
    at = report.atlas.column_names.index("name")
    names = [EVIL if i % 3 == 2 and name else name for i, name in enumerate(report.atlas["name"].to_pylist())]
    atlas = report.atlas.set_column(at, report.atlas.schema.field("name"), [names])
    data = replace(
        made(FEATURES, report=replace(report, atlas=atlas)),
        place_of={feature: (feature % 11, feature % 7) for feature in range(50)},
        shade=lambda image_id, side: shade(GreyValues(HOUNSFIELD, (0, 1000)), side) if image_id == DEEP else None,
    )
    place = tmp_path_factory.mktemp("chromium") / "pages"
    write_folder(Site(data), place)
    return f"file://{place}/"


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    watched = Watched(browser)
    yield watched
    assert watched.errors == []
    watched.context.close()


@pytest.fixture(scope="module")
def server(desk: Desk) -> Iterator[str]:
    """The service on a port, as Ray Serve runs it but for its proxy."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(make_app(desk, None), port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('href') ?? document.activeElement.id"))


def test_three_keys_lead_from_the_grid_to_why_a_name_was_rejected(watched: Watched, folder: str) -> None:
    page = watched.page
    page.goto(f"{folder}index.html#verdict=rejected")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/feature/*.html")
    page.keyboard.press("w")
    page.wait_for_url("**/feature/*.html#why")
    assert focused(page) == "why" and page.locator("p.verdict .badge").inner_text() == "rejected"
    assert page.locator(".questions tbody tr").count() == 4
    said = page.locator("p.verdict").inner_text()
    assert re.search("control|interval|chance|look-alikes|q 0", said), said


def test_three_clicks_lead_there_too(watched: Watched, folder: str) -> None:
    page = watched.page
    page.goto(f"{folder}index.html")
    page.select_option("select[name=verdict]", "rejected")
    page.locator(".tile > a").first.click()
    page.get_by_role("link", name="Why?").click()
    assert page.url.endswith("#why") and page.locator("#why-title").is_visible()


def test_the_tour_needs_no_mouse(watched: Watched, folder: str) -> None:
    page = watched.page
    page.goto(f"{folder}index.html")
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("nodule lung")
    page.keyboard.press("Escape")
    total = page.locator(".tile").count()
    assert 0 < total < FEATURES and "q=nodule" in page.url
    for key in ("j", "j", "c", "j", "c", "k", "Enter"):
        page.keyboard.press(key)
    page.wait_for_url("**/feature/*.html")
    first = page.url
    page.keyboard.press("j")
    page.wait_for_url(lambda url: url != first)
    page.keyboard.press("k")
    page.wait_for_url(first)
    assert page.get_by_role("link", name="Compare (2)").count() == 1
    page.get_by_role("link", name="Compare (2)").press("Enter")
    page.wait_for_selector(".columns-of-features h2")
    page.locator(".columns-of-features button.shot").first.press("Enter")
    picked = page.locator("[data-picked]").all_inner_texts()
    assert len(picked) == 2 and all(re.match(r"image \d+: (inactive|[\d.]+)", text) for text in picked)
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.goto(f"{folder}index.html")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(0, 0, 0)"


def test_the_address_keeps_the_view(watched: Watched, folder: str) -> None:
    page = watched.page
    page.goto(f"{folder}index.html")
    assert (
        page.locator(".tile").count() == 60
        and page.locator(".found").inner_text() == f"{FEATURES} of {FEATURES} features"
    )
    page.locator("[data-do=more]").click()
    assert page.locator(".tile").count() == 120
    page.select_option("select[name=verdict]", "verified")
    page.select_option("select[name=sort]", "feature")
    view = page.locator(".tile").evaluate_all("tiles => tiles.map((tile) => Number(tile.dataset.feature))")
    assert view == sorted(view) and page.locator(".tile .badge.verified").count() == len(view)
    again = page.context.new_page()
    again.goto(page.url)
    assert again.locator(".tile").evaluate_all("tiles => tiles.map((tile) => Number(tile.dataset.feature))") == view
    with page.expect_download() as download:
        page.locator("[data-do=csv]").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0].startswith("# Not for clinical use") and "# atlas-0123456789ab" in lines
    assert f"{len([line for line in lines if not line.startswith('#')]) - 1} of" in page.locator(".found").inner_text()


def test_a_name_of_markup_stays_text_in_pages_and_in_what_the_script_makes(watched: Watched, folder: str) -> None:
    page = watched.page
    page.goto(f"{folder}index.html#q=onerror&sort=name")
    assert page.locator(".tile b").count() > 10 and set(page.locator(".tile b").all_inner_texts()) == {EVIL}
    evil = page.locator(".tile").evaluate_all("tiles => tiles.slice(0, 2).map((tile) => tile.dataset.feature)")
    for place in (f"feature/{evil[0]}.html", f"compare.html#f={evil[0]},{evil[1]}", "labels.html", "map.html"):
        page.goto(folder + place)
        page.wait_for_timeout(100)
        assert page.locator('img[src="x"]').count() == 0
    page.goto(f"{folder}compare.html#f={evil[0]},{evil[1]}")
    assert page.locator(".columns-of-features h2 a").first.inner_text() == EVIL


def test_nothing_is_asked_of_another_place(watched: Watched, folder: str) -> None:
    places = (
        "index.html",
        "page-2.html",
        "feature/1.html",
        "run.html",
        "labels.html",
        "map.html",
        "compare.html#f=1,2",
    )
    for place in places:
        watched.page.goto(folder + place)
        watched.page.wait_for_load_state("networkidle")
    assert len(watched.requests) > 50 and all(url.startswith((folder, "blob:")) for url in watched.requests)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, folder: str, scheme: str) -> None:
    watched = Watched(browser, color_scheme=scheme)
    image = next(Path(folder.removeprefix("file://")).glob("image/*.html")).name
    for place in (*PLACES, f"image/{image}"):
        watched.page.goto(folder + place)
        watched.page.wait_for_timeout(100)
        assert watched.serious(scheme == "dark") == [], place
    watched.page.keyboard.press("?")
    assert watched.serious() == []
    watched.context.close()


@pytest.mark.parametrize("width", [390, 1366])
def test_no_page_is_wider_than_its_window(browser: Any, folder: str, width: int) -> None:
    watched = Watched(browser)
    watched.page.set_viewport_size({"width": width, "height": 800})
    image = next(Path(folder.removeprefix("file://")).glob("image/*.html")).name
    for place in (*PLACES, f"image/{image}"):
        watched.page.goto(folder + place)
        assert watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
    watched.context.close()


def test_the_pages_are_read_without_the_script(browser: Any, folder: str) -> None:
    watched = Watched(browser, java_script_enabled=False)
    page = watched.page
    page.goto(f"{folder}index.html")
    assert page.locator(".tile").count() == 60 and not page.locator("form.filters").is_visible()
    page.get_by_role("link", name="Next").click()
    page.locator(".tile > a").first.click()
    assert (
        page.locator(".questions, .images").count() > 0 and "Not for clinical use" in page.locator("body").inner_text()
    )
    watched.context.close()


def grey(watched: Watched) -> np.ndarray:
    shot = watched.page.locator(".light-box").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("L")).astype(float)


def differs(watched: Watched, expected: np.ndarray) -> float:
    return float(np.abs(grey(watched) - expected).mean())


def test_an_image_is_windowed_inverted_and_moved(watched: Watched, folder: str) -> None:
    page = watched.page
    page.goto(f"{folder}image/{table(LABELS).number(image_ids()[3])}.html")
    page.wait_for_function("document.querySelector('.picture').complete")
    before = grey(watched)
    page.keyboard.press("i")
    assert soon(lambda: differs(watched, 255 - before) < 2)
    page.keyboard.press(" ")
    assert soon(lambda: differs(watched, before) < 1)
    page.locator("input[name=width]").fill("200")
    page.locator("input[name=level]").fill("500")
    windowed = np.clip((before - 127.5) / 51 + 0.5, 0, 1) * 255
    assert soon(lambda: differs(watched, windowed) < 4)
    page.keyboard.press("=")
    for key in ("Space", "h", "v", "r", "l", "+", "-"):
        page.locator(".light-box").press(key)
    assert soon(lambda: differs(watched, before[::-1, ::-1]) < 2)


def off_window(watched: Watched, centre: float, width: float) -> float:
    """The mean difference of the shown slice from the same slice in a window."""
    shown = grey(watched)
    side = min(shown.shape)
    rows = (np.arange(side) * 96 / side).astype(int)
    expected = np.clip((HOUNSFIELD[rows][:, rows] - centre) / width + 0.5, 0, 1) * 255
    return float(np.abs(shown[:side, :side] - expected).mean())


def test_values_of_16_bits_are_windowed_on_the_page(watched: Watched, folder: str) -> None:
    page = watched.page
    page.goto(f"{folder}image/{table(LABELS).number(DEEP)}.html")
    page.wait_for_function("document.querySelector('.picture').complete")
    page.set_viewport_size({"width": 700, "height": 900})
    for key, window in ((" ", (0, 1000)), ("2", (40, 400)), ("3", (480, 2500)), ("4", (40, 80))):
        page.keyboard.press(key)
        assert soon(partial(lambda window: off_window(watched, *window) < 3, window)), key


def test_the_service_encodes_and_searches_from_the_same_pages(
    watched: Watched, server: str, small: Small, tmp_path: Path
) -> None:
    page, images = watched.page, sorted(small.images.glob("*.png"))

    def encoded(image: Path) -> dict[str, Any]:
        headers = {"Content-Type": "image/png"}
        answer = page.request.post(f"{server}v1/encode?named=false", data=image.read_bytes(), headers=headers)
        found: dict[str, Any] = answer.json()
        return found

    of = {image: encoded(image) for image in images[:12]}
    image = next(image for image, found in of.items() if found["active"] and not found["unlike_the_run"]["flag"])
    page.goto(server)
    page.wait_for_selector("section.served:not([hidden])")
    page.set_input_files("input[name=image]", str(image))
    page.locator("form.upload button").click()
    page.wait_for_selector(".answer li")
    assert re.search(r"activation [\d.]+, percentile \d+ of its own", page.locator(".answer li").first.inner_text())
    assert page.locator(".answer .warning").count() == 0
    Image.new("L", (24, 24), 255).save(tmp_path / "white.png")
    page.set_input_files("input[name=image]", str(tmp_path / "white.png"))
    page.locator("form.upload button").click()
    page.get_by_text("This image is unlike those of the run").wait_for()
    (tmp_path / "no.png").write_bytes(b"no image")
    page.set_input_files("input[name=image]", str(tmp_path / "no.png"))
    page.locator("form.upload button").click()
    page.get_by_text(encoded(tmp_path / "no.png")["error"]["message"]).wait_for()
    watched.errors = [error for error in watched.errors if "415" not in error]  # the refusal, which Chromium logs
    page.fill("input[name=text]", "left")
    page.locator("form.ask button").click()
    page.wait_for_selector(".answer li")
    assert "left" in page.locator(".answer li a").first.inner_text()
    assert watched.serious() == []
    page.locator(".answer li a").first.click()
    page.wait_for_url("**/feature/*.html")
    assert all(url.startswith(server) for url in watched.requests)


def test_a_figure_is_saved_with_its_style_and_its_notice(watched: Watched, folder: str) -> None:
    watched.page.goto(f"{folder}labels.html")
    with watched.page.expect_download() as download:
        watched.page.locator("[data-do=figure]").click()
    text = Path(download.value.path()).read_text()
    assert text.startswith("<svg") and "Not for clinical use" in text and "atlas-0123456789ab" in text
    assert "href" not in text and json.dumps(text)
