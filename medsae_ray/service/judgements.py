"""The routes of readers' judgements and of reader studies."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathPart
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from medsae_ray.core.judgements.export import Form, exported
from medsae_ray.core.judgements.record import Kind
from medsae_ray.service import judgement_responses as answers
from medsae_ray.service import judging_pages
from medsae_ray.service.desk import Desk
from medsae_ray.service.judging import Judging

MEDIA: dict[Form, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
Text = Annotated[str, Field(max_length=2000)]
Word = Annotated[str, Field(max_length=64)]
StudyName = Annotated[str, PathPart(max_length=64)]


class NewJudgement(BaseModel):
    """A judgement to keep."""

    model_config = ConfigDict(extra="forbid")

    reader: Text
    feature: Annotated[int, Field(ge=0, lt=2**31)]
    kind: Kind
    value: Text | None = None
    reason: Text | None = None
    blind: bool = False
    study: Word | None = None
    key: Word | None = None


class NewStudy(BaseModel):
    """A study to make."""

    model_config = ConfigDict(extra="forbid")

    name: Word
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    size: Annotated[int, Field(ge=1, le=10_000)] = 50


def router(desk: Desk) -> APIRouter:
    """Return the routes, and those of the pages for people."""
    found, judging = APIRouter(), Judging(desk)
    routes = APIRouter(prefix="/v1", tags=["judgements"])
    _judgements(routes, judging)
    _studies(routes, judging)
    found.include_router(routes)
    found.include_router(judging_pages.router(judging))
    return found


def _judgements(found: APIRouter, judging: Judging) -> None:
    @found.post("/judgements", response_model=answers.Judgement)
    def judge(given: NewJudgement) -> dict[str, Any]:
        """Keep a reader's judgement of a feature: a vote (agree, disagree or unsure) on its name, a better name
        (rename), a note, or that it is not_a_finding. It is safe once it is answered; sent again with the same key, it
        is kept once."""
        return asdict(judging.judge(**dict(given)))

    @found.get("/judgements", response_model=answers.Judgements)
    def judgements(
        feature: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
        reader: Annotated[str | None, Query(max_length=60)] = None,
        study: Annotated[str | None, Query(max_length=40)] = None,
    ) -> dict[str, Any]:
        """Return the judgements of this run in order of time."""
        read = judging.of_run(feature, reader, study)
        return {"judgements": [asdict(one) for one in read.judgements], "unreadable": read.unreadable}

    @found.get("/judgements/export", response_class=Response)
    def export(form: Form = "csv") -> Response:
        """Return all judgements of this run as a file: csv, jsonl or parquet."""
        data = exported(judging.of_run().judgements, form)
        headers = {"Content-Disposition": f'attachment; filename="judgements-{judging.atlas}.{form}"'}
        return Response(data, media_type=MEDIA[form], headers=headers)

    @found.get("/judgements/agreement", response_model=answers.Agreement)
    def agree(
        study: Annotated[str | None, Query(max_length=40)] = None,
        blind: bool = False,
    ) -> dict[str, Any]:
        """Return how far readers agree with each other and with the model's verdicts, by each reader's first vote on a
        feature; with `blind` only by votes that were given before the verdict was shown."""
        found = judging.agreement(study, blind)
        return {
            "votes": found.votes,
            "readers": found.readers and found.readers._asdict(),
            "pairs": [{"a": a, "b": b, **kappa._asdict()} for a, b, kappa in found.pairs],
            "model": [{"reader": reader, **kappa._asdict()} for reader, kappa in found.model],
        }


def _studies(found: APIRouter, judging: Judging) -> None:
    @found.post("/studies", response_model=answers.Study)
    def start(given: NewStudy) -> dict[str, Any]:
        """Make a reader study: features with a tested name, drawn by the seed. It never changes."""
        return asdict(judging.start(given.name, given.seed, given.size))

    @found.get("/studies/{name}", response_model=answers.StudyProgress)
    def progress(name: StudyName, reader: Annotated[str, Query(min_length=1, max_length=60)]) -> dict[str, Any]:
        """Return how far a reader is in a study, and the next feature, without its verdict."""
        study = judging.study(name)
        left = study.left(reader, judging.of_run(reader=reader, study=name).judgements)
        shown = judging.blind(left[0]) if left else None
        return {"study": name, "features": len(study.features), "left": len(left), "next": shown}
