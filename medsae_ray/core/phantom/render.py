"""The radiograph of a study, put together from the body, the findings and the film."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medsae_ray.core.phantom import anatomy, film
from medsae_ray.core.phantom.body import as_ap, draw_body
from medsae_ray.core.phantom.canvas import Array, Canvas
from medsae_ray.core.phantom.findings import CHRONIC, DRAW, RESHAPE
from medsae_ray.core.phantom.marks import Marks
from medsae_ray.core.phantom.streams import stream
from medsae_ray.core.phantom.study import Study


def render(study: Study) -> NDArray[np.uint8]:
    """Return the radiograph of one study, uint8 [H, W]."""
    present = [name for name, planted in study.truth.items() if planted]
    chest = _chest(study, present)
    bright = film.develop(_stream(study, "film"), _density(study, chest, present))
    if study.film == "soft":
        bright = film.soften(bright)
    film.burn_in(_stream(study, "markers"), bright, study.scanner, bool(study.portable_marker))
    return (np.clip(bright, 0, 1) * 255 + 0.5).astype(np.uint8)


def place(study: Study, finding: str, image: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
    """Return the pixels [224, 224] that differ by more than 8 grey levels between the film and one without `finding`.

    `image` is the film, if it is drawn already. False everywhere if the study does not have the finding.
    """
    image = render(study) if image is None else image
    without = render(replace(study, truth=study.truth | {finding: 0}))
    changed: NDArray[np.bool_] = np.abs(image.astype(np.int16) - without) > 8
    return changed


def _stream(study: Study, name: str) -> np.random.Generator:
    """Return the study's stream of that name, or the patient's for a chronic finding."""
    index = 0 if name in CHRONIC else study.index
    return stream(study.seed, study.number, index, name)


def _chest(study: Study, present: list[str]) -> anatomy.Chest:
    body = draw_body(stream(study.seed, study.number, "body"), study.sex, study.age)
    if study.view == "AP":
        body = as_ap(body, _stream(study, "ap"))
    for name in present:
        if name in RESHAPE:
            body = RESHAPE[name](_stream(study, name), body)
    return anatomy.lay_out(Canvas(film.draw_pose(_stream(study, "pose"), study.view)), body)


def _density(study: Study, chest: anatomy.Chest, present: list[str]) -> Array:
    marks = Marks(np.zeros_like(chest.edge), chest.lungs[0] + chest.lungs[1], np.zeros_like(chest.edge))
    for name in present:
        if name in DRAW:
            DRAW[name](_stream(study, name), chest, marks)
    twigs = anatomy.vessels(stream(study.seed, study.number, "vessels"), chest, marks.aerated)
    density = anatomy.soft_tissue(chest) + anatomy.bones(chest, marks.breaks) + marks.density
    density += anatomy.parenchyma(_stream(study, "parenchyma"), chest)
    density += chest.canvas.stroke_layer([twigs, *marks.fine], 0.7)
    density += chest.canvas.stroke_layer([*anatomy.bone_strokes(chest.body), *marks.broad], 1.8)
    return density
