"""The drawing tools: what is asked for in patient coordinates lands on the right pixels at the right strength."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.phantom.canvas import SIZE, Canvas, Pose, Stroke, cloud, smooth, speckle

POSES = st.builds(Pose, st.floats(-0.1, 0.1), st.floats(0.9, 1.15), dx=st.floats(-0.1, 0.1), dy=st.floats(-0.1, 0.1))


@given(POSES, st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))
def test_pixels_inverts_the_grid(pose: Pose, row: int, column: int) -> None:
    canvas = Canvas(pose)
    back = canvas.pixels(canvas.x[row, column], canvas.y[row, column])
    assert np.allclose(back, (column, row), atol=0.02)


def test_smooth_is_a_step_with_its_middle_at_zero() -> None:
    step = smooth(np.array([-1.0, -0.1, 0.0, 0.1, 1.0]), 0.2)
    assert np.allclose(step, [0, 0, 0.5, 1, 1], atol=1e-6)


@given(POSES)
def test_a_disc_covers_the_area_of_its_ellipse(pose: Pose) -> None:
    rx, ry = 0.2, 0.1
    area = Canvas(pose).disc(0.05, -0.1, rx, ry, 0.05).sum() * (2 / (SIZE - 1)) ** 2
    assert area == pytest.approx(np.pi * rx * ry * pose.scale**2, rel=0.05)


@pytest.mark.parametrize("sigma", [0.7, 1.8])
def test_a_stroke_peaks_at_its_density_whatever_the_pen(sigma: float) -> None:
    stroke = Stroke(np.linspace(-0.5, 0.5, 7), np.linspace(-0.4, 0.5, 7), np.full(7, 0.3))
    layer = Canvas(Pose(0.0, 1.0, 0.0, 0.0)).stroke_layer([stroke], sigma)
    ridge = layer[90:130].max(1)
    assert ridge.mean() == pytest.approx(0.3, rel=0.2)  # centres of pixels lie beside the line


def test_noise_has_no_mean_and_unit_variance() -> None:
    rng = np.random.default_rng(0)
    assert speckle(rng).std() == pytest.approx(1, abs=0.02)
    fields = np.stack([cloud(rng, 40) for _ in range(8)])
    assert abs(fields.mean()) < 0.05 and fields.std() == pytest.approx(1, abs=0.05)
