"""The data of the browser, from the artifacts of a finished run."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from medsae_ray.core.analysis.findings import absent_name
from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix, column, null_to_nan
from medsae_ray.core.artifacts.likeness import LikenessMetrics
from medsae_ray.core.artifacts.metrics import ManifestMetrics, metrics_of
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.browser.access import Access
from medsae_ray.core.browser.data import BrowserData, ImageTable, NameQuestions, Question, SampleImage, Shade
from medsae_ray.core.browser.privacy import common_labels, common_values
from medsae_ray.core.browser.shade import shade
from medsae_ray.core.datasets.rows import label_matrix
from medsae_ray.core.images.reader import Reading
from medsae_ray.core.naming.pictures import BLANK, Pictures
from medsae_ray.core.naming.plan import TRIVIAL, Concept
from medsae_ray.core.naming.scores import answered
from medsae_ray.core.retrieval.similar import Similar
from medsae_ray.core.sae.activations import load_artifact_sae
from medsae_ray.errors import ImageError
from medsae_ray.outputs.report import report_data
from medsae_ray.runtime.run import Run
from medsae_ray.stages.answers import ControlNames, LabelQuestions, asked_of, concepts_of
from medsae_ray.stages.manifest import image_store
from medsae_ray.stages.samples import DETECTION, by_feature
from medsae_ray.stages.scores import sources_of

CITED = ("manifest", "embeddings", "sae", "features", "names", "scores", "atlas")
"""The artifacts that a citation names."""
LIKE = 10
"""The similar images of an image's page."""
MAP = "feature_map"
"""The stage with the places of features on a map: feature, x, y."""


def browser_data(run: Run, access: Access) -> BrowserData:
    """Return all that the browser shows of a finished run; images as `access` allows."""
    manifest, sae = run.artifact("manifest"), load_artifact_sae(run.artifact("sae"))
    table, uris = images_of(run, manifest), manifest.table(["image_id", "uri"])
    tested = tests_of(run) if run.recipe.what.naming else {}
    x_NF = activation_matrix(run.artifact("activations").table(["feature", "value"]), sae.width)
    return BrowserData(
        report=report_data(run),
        images=table,
        x_NF=sparse.csc_array(x_NF),
        decoder_FD=_unit(sae.W_dec.detach().double().numpy()),
        tested=lambda feature: tested.get(feature, ()),
        questions=questions_of(run, tested) if tested else lambda feature, source: None,
        picture=_picture(run, uris),
        shade=_shade(run, uris),
        similar=_similar(run),
        citation={name: run.artifact(name).name for name in CITED if name in _made(run)},
        access=access,
        replication_of=_by_feature(run.artifact("replication").table().to_pylist()) if run.recipe.what.datasets else {},
        place_of=_places(run),
        unlike=_unlike(run.artifact("likeness")),
    )


def images_of(run: Run, manifest: Artifact) -> ImageTable:
    """Return the images of a run, without what few patients share. Numbers follow from the manifest alone."""
    what, table = run.recipe.what, manifest.table()
    patient_N = np.unique(column(table, "patient_id").astype(str), return_inverse=True)[1]
    columns = [name for name in table.column_names if name.startswith(METADATA)]
    values = {name: table[name].to_pylist() for name in columns}
    draw = np.random.default_rng(int(manifest.record.fingerprint[:16], 16))
    return ImageTable(
        id_N=table["image_id"].to_pylist(),
        patient_N=patient_N,
        split_N=table["split"].to_pylist(),
        dataset_N=table["dataset"].to_pylist(),
        labels=metrics_of(manifest, ManifestMetrics)["labels"],
        y_NL=common_labels(label_matrix(table, what.uncertain, what.blank), patient_N),
        metadata={name.removeprefix(METADATA): common_values(found, patient_N) for name, found in values.items()},
        number_N=draw.permutation(table.num_rows),
    )


def tests_of(run: Run) -> dict[int, Sequence[SampleImage]]:
    """Return the images that each feature's name is tested on."""
    found = by_feature(run.artifact("samples").table(), DETECTION)
    return {f: [SampleImage(row["image_id"], row["role"], row["value"]) for row in rows] for f, rows in found.items()}


def questions_of(run: Run, tested: Mapping[int, Sequence[SampleImage]]) -> Callable[[int, str], NameQuestions | None]:
    """Return the function of a feature and a source that gives the answers about its name and its controls."""
    labels = metrics_of(run.artifact("manifest"), ManifestMetrics)["labels"]
    controls = ControlNames.of(run, run.artifact("manifest"), run.artifact("samples"))
    sources = sources_of(run.recipe)
    asked_of_source: dict[str, LabelQuestions] = {
        source.name: asked_of(concepts_of(run.artifact(source.names).table()), labels if source.name == "label" else [])
        for source in sources
    }
    answers = pa.concat_tables([run.artifact(source.answers).table() for source in sources])
    keys = zip(*(answers[name].to_pylist() for name in ("image_id", "name", "definition")), strict=True)
    p_of = dict(zip(keys, _answered(answers), strict=True))

    def asked(concept: Concept, kind: str, images: Sequence[SampleImage], turned: bool = False) -> Question:
        def p(image_id: str) -> float:
            yes = float(p_of.get((image_id, concept.name, concept.definition), np.nan))
            return 1 - yes if turned else yes

        said = Concept(absent_name(concept.name)) if turned else concept
        return Question(said, kind, [p(image.image_id) for image in images], p(BLANK))

    def questions(feature: int, source: str) -> NameQuestions | None:
        concept_of, turned = asked_of_source.get(source, LabelQuestions({}, frozenset()))
        images = tested.get(feature, ())
        if feature not in concept_of or not images:
            return None
        chosen, others = controls.of_feature(concept_of, feature)
        found = [asked(concept_of[feature], "own", images, feature in turned)]
        found += [asked(concept, "other" if n < others else "control", images) for n, concept in enumerate(chosen)]
        return NameQuestions(images, [*found, asked(TRIVIAL, "trivial", images)])

    return questions


def _answered(answers: Any) -> Floats:
    """Return p(yes), NaN for a question without an answer."""
    p_n, mass_n = ([null_to_nan(value) for value in answers[name].to_pylist()] for name in ("p_yes", "mass"))
    return answered(p_n, mass_n)


def _picture(run: Run, uris: pa.Table) -> Callable[[str, int], bytes | None]:
    store, reading = image_store(run), Reading.of(run.recipe.what.images)
    pictures = lru_cache(lambda side: Pictures.of(uris, store, side, reading))
    return lambda image_id, side: pictures(side).png(image_id)


def _shade(run: Run, uris: pa.Table) -> Callable[[str, int], Shade | None]:
    store, reading = image_store(run), Reading.of(run.recipe.what.images)
    uri_of = dict(zip(uris["image_id"].to_pylist(), uris["uri"].to_pylist(), strict=True))

    @lru_cache(4)  # an image's page is asked for, and then its values
    def found(image_id: str, side: int) -> Shade | None:
        try:
            values = reading.values(store, uri_of[image_id])
        except ImageError:
            return None
        return shade(values, side) if values and values.value_HW.size else None

    return found


def _similar(run: Run) -> Callable[[str], Sequence[tuple[str, float]]]:
    search = Similar({name: run.artifact(name) for name in ("manifest", "activations", "sae", "atlas")})

    @lru_cache(None)
    def similar(image_id: str) -> Sequence[tuple[str, float]]:
        query = search.of_run(image_id)
        found = search.ask(query, images=LIKE)["images"] if query else []
        return [(image["image_id"], image["similarity"]) for image in found]

    return similar


def _made(run: Run) -> set[str]:
    return run.ancestors("atlas") | {"atlas"}


def _by_feature(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["feature"], []).append(row)
    return found


def _places(run: Run) -> dict[int, tuple[float, float]]:
    """Return the places of features, if the run has made the map."""
    stage = run.committed(MAP) if MAP in run.stages else None
    rows = stage.table(["feature", "x", "y"]).to_pylist() if stage else []
    return {row["feature"]: (row["x"], row["y"]) for row in rows}


def _unlike(likeness: Artifact) -> frozenset[str]:
    """Return the images whose distance from the run's own is above the threshold, if there is one."""
    threshold = metrics_of(likeness, LikenessMetrics)["threshold"]
    if threshold is None:
        return frozenset()
    table = likeness.table(["image_id", "distance"])
    far = pc.greater(table["distance"], threshold)
    return frozenset(table.filter(far)["image_id"].to_pylist())


def _unit(w_FD: np.ndarray) -> Floats:
    norm_F1 = np.linalg.norm(w_FD, axis=1, keepdims=True)
    return np.asarray(w_FD / np.where(norm_F1 > 0, norm_F1, 1))
