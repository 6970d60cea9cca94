"""The page of a feature: the report's card, the evidence of its verdict, its images by strength, and its neighbours."""

import base64
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from medsae_ray.core.browser.data import BrowserData
from medsae_ray.core.browser.evidence import Answer, evidence, unasked
from medsae_ray.core.browser.frame import Frame
from medsae_ray.core.browser.images import ImageFiles
from medsae_ray.core.browser.neighbours import by_direction, by_images
from medsae_ray.core.browser.privacy import SMALL
from medsae_ray.core.browser.strength import sample_images, strongest
from medsae_ray.core.report import view
from medsae_ray.core.report.name_tests import NameTest, tests_of
from medsae_ray.core.report.view import Thumbnail, said_of

STORED = 500
"""The strongest images of a feature that comparisons know."""


class ShownAnswer(NamedTuple):
    """An image of a test on the page."""

    image: Thumbnail
    answer: Answer


def feature_page(frame: Frame, feature: int) -> str:
    """Return the page of a feature."""
    data, row = frame.data, frame.row_of[feature]
    tests = tests_of(data.report.naming, {feature})[feature] if data.report.naming else []
    head = head_of(row, tests)
    asked = data.questions(feature, head.row["source"]) if head else None
    found = evidence(asked) if asked else None
    by_role = found.by_role if found else unasked(sample_images(data, feature))
    files = frame.files("../")
    place = frame.place_of[feature]
    return frame.render(
        "feature.html.j2",
        "../",
        row=row,
        card=_card(frame, row, tests, files),
        heading="h2",
        head=head,
        evidence=found,
        errors=_shown(data, files, row, found.errors) if found else [],
        by_role=[(role.name, _shown(data, files, row, role.answers)) for role in by_role],
        near_directions=by_direction(data, feature),
        near_images=by_images(data, feature),
        name_of={row["feature"]: row["name"] for row in frame.rows},
        replication=data.replication_of.get(feature, ()),
        probes=data.report.probes.get(row["best_label"] or "", {}),
        previous=frame.rows[place - 1]["feature"] if place else None,
        following=frame.rows[place + 1]["feature"] if place + 1 < len(frame.rows) else None,
    )


def head_of(row: dict[str, Any], tests: Sequence[NameTest]) -> NameTest | None:
    """Return the name in the heading, or the reason why the model gave none; None without a test of names."""
    own = (test for test in tests if test.row["name"] and test.row["source"] == row["name_source"])
    return next(own, next((test for test in tests if test.row["source"] == "vlm"), None))


def _card(frame: Frame, row: dict[str, Any], tests: Sequence[NameTest], files: ImageFiles) -> view.Card:
    report = frame.data.report
    limit = frame.correlation_limit
    shown = {image_id: labels_on(frame.data, image_id) for image_id in row["top_images"]}
    card = view.card(row, report, limit, {}, tests, shown, files)
    small = any(0 < row[key] < SMALL for key in ("auroc_positives", "auroc_negatives"))
    card = card._replace(thumbnails=[], support="") if frame.data.access == "none" else card
    return card._replace(support="") if small else card


def labels_on(data: BrowserData, image_id: str) -> Sequence[float]:
    """Return an image's annotation, without labels of few patients."""
    found: Sequence[float] = data.images.y_NL[data.images.row_of[image_id]].tolist()
    return found


def _shown(data: BrowserData, files: ImageFiles, row: dict[str, Any], answers: Sequence[Answer]) -> list[ShownAnswer]:
    if data.access == "none":
        return []
    return [ShownAnswer(_thumbnail(data, files, row, answer), answer) for answer in answers]


def _thumbnail(data: BrowserData, files: ImageFiles, row: dict[str, Any], answer: Answer) -> Thumbnail:
    return Thumbnail(
        said=files.called(answer.image_id),
        value=answer.value,
        src=files.src(answer.image_id),
        heat=files.heat(row["feature"], answer.image_id, row["max"]) if answer.active else None,
        labels=said_of(data.images.labels, labels_on(data, answer.image_id)),
        href=files.href(answer.image_id),
    )


def feature_data(frame: Frame, feature: int) -> str:
    """Return what comparisons know of a feature, as a script: a page from a folder may load a script, but no JSON."""
    data, row = frame.data, frame.row_of[feature]
    value, image = strongest(data, feature)
    shown = data.access != "none"
    known = {
        "histogram": row["histogram"],
        "r": [None if r != r or r is None else round(r, 4) for r in row["r"]],
        "active": len(value),
        "top": [data.images.number(image_id) for image_id in row["top_images"]] if shown else [],
        "images": data.images.number_N[image[:STORED]].tolist() if shown else [],
        "values": [round(float(v), 4) for v in value[:STORED]] if shown else [],
        "decoder": _quantised(data.decoder_FD[feature]),
    }
    text = json.dumps(known, separators=(",", ":"), allow_nan=False)
    return f'"use strict";\n(window.medsaeFeature ||= {{}})[{feature}] = {text};\n'


def _quantised(direction_D: np.ndarray) -> str:
    """Return a direction in 255 steps as base64: cosines of two of them are right to two decimals."""
    largest = float(np.abs(direction_D).max()) or 1.0
    return base64.b64encode(np.rint(direction_D / largest * 127).astype(np.int8).tobytes()).decode()
