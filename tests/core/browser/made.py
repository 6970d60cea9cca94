"""A made-up run for the browser: the report's sample with images, questions and directions."""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from scipy import sparse

from medsae_ray.core.browser.access import Access
from medsae_ray.core.browser.data import BrowserData, ImageTable, NameQuestions, Question, SampleImage
from medsae_ray.core.naming.plan import TRIVIAL, Concept
from medsae_ray.core.report.data import ReportData
from tests.core.report.named import ROLES, TEXTS, full_naming
from tests.core.report.sample import picture

IMAGES = 60


def image_ids() -> list[str]:
    return [f"patient{i:05d}-view1" for i in range(IMAGES)]


def png(image_id: str, side: int) -> bytes:
    image = Image.open(io.BytesIO(picture(sum(map(ord, image_id)) % 12)))
    image.thumbnail((side, side))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def table(labels: Sequence[str], seed: int = 0) -> ImageTable:
    rng = np.random.default_rng(seed)
    return ImageTable(
        id_N=image_ids(),
        patient_N=np.arange(IMAGES),
        split_N=["detection"] * IMAGES,
        dataset_N=["made up"] * IMAGES,
        labels=labels,
        y_NL=(rng.random((IMAGES, len(labels))) < 0.3).astype(np.float64),
        metadata={"view": ["PA", None] * (IMAGES // 2)},
        number_N=rng.permutation(IMAGES),
    )


def activations(features: int, seed: int = 0) -> sparse.csc_array:
    rng = np.random.default_rng(seed)
    x_NF = rng.random((IMAGES, features)) * 5 * (rng.random((IMAGES, features)) < 0.4)
    return sparse.csc_array(x_NF.astype(np.float32))


def sample_images(feature: int) -> list[SampleImage]:
    rng = np.random.default_rng(feature)
    ids = rng.permutation(image_ids())[: len(ROLES)]
    return [
        SampleImage(str(image), role, float(rng.uniform(1, 5)) if role.startswith("bin") else 0.0)
        for image, role in zip(ids, ROLES, strict=True)
    ]


def questions(feature: int) -> NameQuestions:
    rng, images = np.random.default_rng(feature), sample_images(feature)
    active = np.array([image.value > 0 for image in images])
    own = np.clip(rng.normal(0.25 + 0.5 * active, 0.25), 0, 1)
    kinds = [("own", 0), ("other", 1), ("control", 2)]
    asked = [
        Question(
            Concept(*TEXTS[(feature + step) % 4][:2]), kind, own if kind == "own" else rng.random(len(images)), 0.1
        )
        for kind, step in kinds
    ]
    return NameQuestions(images, [*asked, Question(TRIVIAL, "trivial", np.full(len(images), 0.9))])


def made(features: int = 12, access: Access = "all", report: ReportData | None = None) -> BrowserData:
    report = report or full_naming(features=features)
    rng = np.random.default_rng(1)
    decoder_FD = rng.normal(size=(features, 16))
    ids = image_ids()
    return BrowserData(
        report=replace(report, thumbnail=lambda image_id: None),
        images=table(report.labels),
        x_NF=activations(features),
        decoder_FD=decoder_FD / np.linalg.norm(decoder_FD, axis=1, keepdims=True),
        tested=lambda feature: sample_images(feature) if feature % 9 != 5 else (),
        questions=lambda feature, source: questions(feature) if feature % 9 != 5 else None,
        picture=png,
        shade=lambda image_id, side: None,
        similar=lambda image_id: [(other, 0.9) for other in ids[:3] if other != image_id],
        citation={"sae": "sae-3f9a1c20", "atlas": "atlas-0123456789ab"},
        access=access,
    )
