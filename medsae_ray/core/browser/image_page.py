"""The page of an image: its features, its annotation, its metadata, and images like it."""

from typing import NamedTuple

import numpy as np

from medsae_ray.core.browser.feature_page import labels_on
from medsae_ray.core.browser.frame import Frame
from medsae_ray.core.browser.images import LARGE, ImageFiles
from medsae_ray.core.report.text import known


class ActiveFeature(NamedTuple):
    """A feature that is active on an image."""

    feature: int
    value: float
    percentile: float
    """The share of the run's images with the feature on which it is no stronger, from 0 to 100."""
    heat: str | None
    """The address of its activation on the image's patches."""


class LikeImage(NamedTuple):
    """An image of another patient that is like this one."""

    said: str
    similarity: float
    src: str | None
    href: str | None


def image_page(frame: Frame, row: int) -> str:
    """Return the page of the image in a row of the manifest."""
    data, images = frame.data, frame.data.images
    files, image_id = frame.files("../"), images.id_N[row]
    labels = zip(images.labels, labels_on(data, image_id), strict=True)
    return frame.render(
        "image.html.j2",
        "../",
        number=int(images.number_N[row]),
        unlike=image_id in data.unlike,
        readable=data.active_NF.indptr[row] < data.active_NF.indptr[row + 1],
        shade=data.shade(image_id, LARGE),
        labels=[(label, "present" if value == 1 else "absent") for label, value in labels if known(value)],
        metadata=[(name, values[row]) for name, values in images.metadata.items()],
        split=images.split_N[row],
        dataset=images.dataset_N[row],
        active=active_features(frame, files, row),
        name_of={row["feature"]: row["name"] for row in frame.rows},
        verdict_of={tile.feature: tile.verdict for tile in frame.tiles},
        like=[
            LikeImage(files.called(other), similarity, files.src(other), files.href(other))
            for other, similarity in data.similar(image_id)
        ],
    )


def active_features(frame: Frame, files: ImageFiles, row: int) -> list[ActiveFeature]:
    """Return the features of an image, the most unusual activation for its feature first."""
    data = frame.data
    image_id = data.images.id_N[row]
    of = slice(*data.active_NF.indptr[row : row + 2])
    found = []
    for feature, value in zip(data.active_NF.indices[of].tolist(), data.active_NF.data[of].tolist(), strict=True):
        all_of = data.x_NF.data[slice(*data.x_NF.indptr[feature : feature + 2])]
        percentile = 100 * float(np.mean(all_of <= value))
        heat = files.heat(feature, image_id, float(all_of.max())) if (feature, image_id) in frame.heated else None
        found.append(ActiveFeature(feature, value, percentile, heat))
    return sorted(found, key=lambda active: (-active.percentile, active.feature))
