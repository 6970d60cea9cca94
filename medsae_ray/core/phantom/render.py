"""A study's radiograph, put together from the body, the findings and the film."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medsae_ray.core.phantom import anatomy, film
from medsae_ray.core.phantom.body import as_ap, draw_body
from medsae_ray.core.phantom.canvas import Array, Canvas
from medsae_ray.core.phantom.findings import CHRONIC, DRAW, RESHAPE
from medsae_ray.core.phantom.marks import Marks
from medsae_ray.core.phantom.streams import stream

if TYPE_CHECKING:
    from medsae_ray.core.phantom.cohort import Study


def render(study: "Study") -> NDArray[np.uint8]:
    """The radiograph of one study, uint8 [H, W]."""
    present = [name for name, planted in study.truth.items() if planted]
    chest = _chest(study, present)
    bright = film.develop(_stream(study, "film"), _density(study, chest, present))
    if study.film == "soft":
        bright = film.soften(bright)
    film.burn_in(_stream(study, "markers"), bright, study.scanner, bool(study.portable_marker))
    return (np.clip(bright, 0, 1) * 255 + 0.5).astype(np.uint8)


def _stream(study: "Study", name: str) -> np.random.Generator:
    """The study's stream of that name, or the patient's for what a patient keeps."""
    index = 0 if name in CHRONIC else study.index
    return stream(study.seed, study.number, index, name)


def _chest(study: "Study", present: list[str]) -> anatomy.Chest:
    body = draw_body(stream(study.seed, study.number, "body"), study.sex, study.age)
    if study.view == "AP":
        body = as_ap(body, _stream(study, "ap"))
    for name in present:
        if name in RESHAPE:
            body = RESHAPE[name](_stream(study, name), body)
    return anatomy.lay_out(Canvas(film.draw_pose(_stream(study, "pose"), study.view)), body)


def _density(study: "Study", chest: anatomy.Chest, present: list[str]) -> Array:
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
