"""The requests of the client, each with the type of its answer: that of the service's own route.

Each function here is a method of Client and of AsyncClient. All may be sent twice: they change nothing, or have a key.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel

from medsae_ray.service import judgement_responses as judged
from medsae_ray.service import responses as answers

T = TypeVar("T", bound=BaseModel)
Image: TypeAlias = str | PathLike[str] | bytes
"""The path of a PNG, JPEG or DICOM file, or its bytes."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and the type of its answer."""

    answer: type[T]
    method: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    files: list[tuple[str, tuple[str, bytes]]] | None = None
    texts: dict[str, list[str]] | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the request as httpx takes it."""
        query = {name: value for name, value in self.query.items() if value is not None}
        return {"params": query, "json": self.json, "files": self.files, "data": self.texts}


def encode(image: Image, *, top: int = 10, named: bool = True) -> Call[answers.Encoded]:
    """Return an image's strongest `top` features, by default those with a name."""
    return Call(answers.Encoded, "POST", "/v1/encode", {"top": top, "named": named}, files=_files("image", [image]))


def features(
    *,
    page: int = 1,
    size: int = 50,
    sort: str = "feature",
    order: Literal["ascending", "descending"] = "ascending",
    verdict: str | None = None,
    text: str | None = None,
    label: str | None = None,
) -> Call[answers.Page]:
    """Return a page of features: those of a verdict, with `text` in name or definition, or best correlated with a
    label."""
    order_by = {"page": page, "size": size, "sort": sort, "order": order}
    return Call(answers.Page, "GET", "/v1/features", {**order_by, "verdict": verdict, "text": text, "label": label})


def feature(number: int) -> Call[answers.WholeFeature]:
    """Return a feature with all its evidence."""
    return Call(answers.WholeFeature, "GET", f"/v1/features/{number}")


def query(
    text: str,
    *,
    features: int = 3,
    images: int = 10,
    split: str | None = None,
    by: str | None = None,
    ranking: str = "strength",
    exactly: bool = False,
) -> Call[answers.QueryAnswer]:
    """Return the features that answer a query in words, and the images that show them most. See medsae_ray.query."""
    how = {"split": split, "by": by, "ranking": ranking, "exactly": exactly}
    return Call(answers.QueryAnswer, "GET", "/v1/query", {"text": text, "features": features, "images": images, **how})


def similar(
    image: Image | None = None, *, image_id: str | None = None, k: int = 5, images: int = 10, split: str | None = None
) -> Call[answers.SimilarAnswer]:
    """Return the images of the run that share the k strongest features of an image, or of the run's own of an id."""
    if (image is None) == (image_id is None):
        raise ValueError("give an image, or the id of one of the run")
    asked = {"image_id": image_id, "k": k, "images": images, "split": split}
    if image is None:
        return Call(answers.SimilarAnswer, "GET", "/v1/similar", asked)
    return Call(answers.SimilarAnswer, "POST", "/v1/similar", asked, files=_files("image", [image]))


def drift(*, top: int = 20) -> Call[answers.Drift]:
    """Return what the last uploads have become: the share unlike the run, and `top` features whose rate differs."""
    return Call(answers.Drift, "GET", "/v1/drift", {"top": top})


def name(group_a: Sequence[Image], group_b: Sequence[Image]) -> Call[answers.NameAnswer]:
    """Return a name for what the images of group A show and those of group B do not."""
    return Call(answers.NameAnswer, "POST", "/v1/name", files=_files("group_a", group_a) + _files("group_b", group_b))


def detect(
    images: Sequence[Image], names: Sequence[str], definitions: Sequence[str] | None = None
) -> Call[answers.DetectAnswer]:
    """Return the model's probability of yes that each name is visible in each image."""
    texts = {"names": list(names)} | ({"definitions": list(definitions)} if definitions else {})
    return Call(answers.DetectAnswer, "POST", "/v1/detect", files=_files("images", images), texts=texts)


def judge(
    feature: int,
    kind: Literal["vote", "rename", "note", "not_a_finding"],
    value: str | None = None,
    *,
    reader: str,
    reason: str | None = None,
    blind: bool = False,
    study: str | None = None,
    key: str | None = None,
) -> Call[judged.Judgement]:
    """Keep a judgement: a vote ("agree", "disagree" or "unsure" with the name), a better name, a note, or that the
    feature is no finding. It is safe once this returns. What is sent again with its `key` is kept once; each judgement
    gets a key of its own unless it is given."""
    told = {"reader": reader, "feature": feature, "kind": kind, "value": value, "reason": reason}
    more = {"blind": blind, "study": study, "key": key or uuid.uuid4().hex}
    return Call(judged.Judgement, "POST", "/v1/judgements", json={**told, **more})


def judgements(
    *, feature: int | None = None, reader: str | None = None, study: str | None = None
) -> Call[judged.Judgements]:
    """Return the judgements of the run, perhaps only those of a feature, a reader or a study."""
    asked = {"feature": feature, "reader": reader, "study": study}
    return Call(judged.Judgements, "GET", "/v1/judgements", asked)


def agreement(*, study: str | None = None, blind: bool = False) -> Call[judged.Agreement]:
    """Return the agreement of readers with each other and with the model."""
    return Call(judged.Agreement, "GET", "/v1/judgements/agreement", {"study": study, "blind": blind})


def _files(field: str, images: Sequence[Image]) -> list[tuple[str, tuple[str, bytes]]]:
    """Read the files; their names stay here, as they may tell of a patient."""
    return [(field, ("image", one if isinstance(one, bytes) else Path(one).read_bytes())) for one in images]
