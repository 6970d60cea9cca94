import base64
import io
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.analysis.patch_maps import PatchMap, Square
from medsae_ray.core.report.overlay import HUE, OPACITY, overlay, overlay_url

WHOLE = Square(0, 0, 1, 1)


def alpha(found: PatchMap, width: int = 40, height: int = 40, peak: float = 4.0) -> np.ndarray:
    image = overlay(found, width, height, peak)
    assert image.size == (width, height) and image.mode == "RGBA"
    assert (np.asarray(image)[..., :3] == HUE).all()
    return np.asarray(image)[..., 3] / 255


def one_patch(row: int, column: int, value: float = 4.0) -> np.ndarray:
    value_HW = np.zeros((4, 4), np.float32)
    value_HW[row, column] = value
    return value_HW


def test_the_tint_is_where_the_activation_is_and_as_strong() -> None:
    full, half = (alpha(PatchMap(one_patch(1, 2, value), WHOLE)) for value in (4.0, 2.0))
    assert full[15, 25] == pytest.approx(OPACITY, abs=0.06) and half[15, 25] == pytest.approx(OPACITY / 2, abs=0.04)
    assert np.unravel_index(full.argmax(), full.shape)[0] // 10 == 1 and full[:, :10].max() == 0 == full[25:].max()
    assert (np.diff(full[15, :25]) >= 0).all() and (np.diff(full[15, 25:]) <= 0).all()


def test_the_scale_on_the_pages_has_the_colour_of_the_tint() -> None:
    style = (files("medsae_ray.core.report") / "style.css").read_text("utf-8")
    assert f"rgb({' '.join(map(str, HUE))} / {OPACITY:.2f}".replace("0.", ".") in style


def test_opacity_ends_at_the_peak_and_is_none_for_a_silent_feature() -> None:
    assert alpha(PatchMap(one_patch(0, 0, 99.0), WHOLE)).max() <= OPACITY + 0.01
    assert alpha(PatchMap(np.zeros((4, 4), np.float32), WHOLE), peak=0.0).max() == 0


def test_a_padded_input_reaches_beyond_the_image_and_a_crop_leaves_borders_clear() -> None:
    padded = alpha(PatchMap(np.full((4, 4), 4.0, np.float32), Square(-0.5, 0, 1.5, 1)), 20, 40)
    assert padded.min() == pytest.approx(OPACITY, abs=0.01)
    lowest = alpha(PatchMap(one_patch(3, 1), Square(0, -0.5, 1, 1.5)), 40, 20)
    assert lowest[:10].max() == 0  # the row of patches below the image's border
    cropped = alpha(PatchMap(np.full((4, 4), 4.0, np.float32), Square(0.25, 0.25, 0.75, 0.75)))
    assert cropped[10:30, 10:30].min() > 0.5 and cropped[:10].max() == cropped[:, 30:].max() == 0


def test_a_thumbnail_gets_an_overlay_of_its_proportions() -> None:
    stream = io.BytesIO()
    Image.new("L", (256, 128)).save(stream, "PNG")
    found = PatchMap(one_patch(1, 2), WHOLE)
    url = overlay_url(stream.getvalue(), found, 4.0)
    assert url is not None and url.startswith("data:image/png;base64,") and len(url) < 3000
    assert Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).size == (64, 32)
    assert overlay_url(None, found, 4.0) is None and overlay_url(stream.getvalue(), None, 4.0) is None
