"""The tint of heat maps on a feature's page, in a real browser and with images hidden."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsae_ray.core.analysis.patch_maps import PatchMap, Square
from medsae_ray.core.browser.access import Access
from medsae_ray.core.browser.folder import write_folder
from medsae_ray.core.browser.site import Site
from medsae_ray.core.report.data import Patches
from tests.core.browser.made import made
from tests.core.report.named import full_naming
from tests.support.chromium import chromium, soon

STYLE = "e => { const found = getComputedStyle(e); return [found.opacity, found.visibility] }"


def pages(folder: Path, access: Access = "all") -> Path:
    """The pages of a made-up run over patches."""

    def maps(wanted: Sequence[tuple[int, str]]) -> dict[tuple[int, str], PatchMap]:
        return {pair: PatchMap(np.eye(4, dtype=np.float32), Square(0, 0, 1, 1)) for pair in wanted}

    report = replace(full_naming(features=12), patches=Patches((4, 4), maps))
    write_folder(Site(made(12, access, report)), folder)
    return folder / "feature" / "0.html"


def test_the_tint_of_a_heat_map_fades_and_hides(tmp_path: Path) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"file://{pages(tmp_path / 'site')}")
        heat = page.locator("article .heat").first
        assert "from 0" in page.locator("p.lead", has_text="The tint").inner_text()
        assert heat.evaluate(STYLE) == ["1", "visible"]
        page.locator("input[name=tint]").fill("30")
        assert soon(lambda: heat.evaluate(STYLE)[0] == "0.3")
        page.keyboard.down("Shift")
        assert soon(lambda: heat.evaluate(STYLE)[1] == "hidden")
        page.keyboard.up("Shift")
        assert soon(lambda: heat.evaluate(STYLE)[1] == "visible")


def test_a_page_without_images_speaks_of_no_tint(tmp_path: Path) -> None:
    hidden = pages(tmp_path / "site", "none").read_text("utf-8")
    assert "The tint" not in hidden and 'name="tint"' not in hidden and "heat/" not in hidden
