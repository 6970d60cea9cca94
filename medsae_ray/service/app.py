"""The routes of the service, on what its desk holds (desk.py)."""

from functools import partial
from importlib import metadata
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi import Path as PathPart
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from medsae_ray.core.retrieval.answer import QueryAnswer, Ranking, SimilarAnswer, Way
from medsae_ray.service import chat, docs_page, judgements, sign_in, vlm
from medsae_ray.service import responses as answers
from medsae_ray.service.atlas import Query as FeatureQuery
from medsae_ray.service.atlas import Sort, Verdict
from medsae_ray.service.browser import browser
from medsae_ray.service.chat_request import ChatRequest
from medsae_ray.service.desk import Desk
from medsae_ray.service.drift_routes import drift_routes
from medsae_ray.service.errors import Problem, install
from medsae_ray.service.middleware import Guard
from medsae_ray.service.uploads import FORM, RAW, image_bytes, read_form
from medsae_ray.stages.names import rules_of

Split = Literal["sae", "naming", "detection"]
EVENTS = "text/event-stream"
_FILE = {"type": "string", "format": "binary"}


def make_app(desk: Desk, token: str | None) -> FastAPI:
    """Make the ASGI application. `token` is the digest of the token that callers have to send; None asks for none."""
    security = [Depends(HTTPBearer(auto_error=False))] if token else []
    app = FastAPI(
        title="medsae-ray",
        version=metadata.version("medsae-ray"),
        docs_url=None,
        redoc_url=None,
        description="Concepts inside a medical image encoder. Not for clinical use: a feature is a correlate.",
        responses={"default": {"model": answers.Refusal, "description": "the request is not answered"}},
        dependencies=security,
    )
    install(app)
    app.include_router(_health(desk))
    app.include_router(_metrics(desk))
    app.include_router(_features(desk))
    app.include_router(_query(desk))
    app.include_router(_images(desk))
    app.include_router(_chat(desk))
    app.include_router(drift_routes(desk))
    app.include_router(judgements.router(desk))
    app.include_router(sign_in.router(token))
    app.include_router(docs_page.router(app.title))
    app.include_router(browser(desk))
    app.add_middleware(Guard, token=token, limits=desk.limits, metrics=desk.metrics)
    return app


def _health(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/v1/health", tags=["health"])

    @router.get("/live")
    async def live() -> answers.Live:
        """Answer as long as the process runs."""
        return answers.Live(live=True)

    @router.get("/ready")
    async def ready() -> answers.Ready:
        """Answer if encoder and SAE are loaded and the recipe's engine, if any, answers; else 503."""
        if desk.engine:
            await desk.engine.check()
        return answers.Ready(ready=True, engine="ok" if desk.engine else "not configured")

    return router


def _metrics(desk: Desk) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return the figures of the service in Prometheus's text format."""
        return Response(desk.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _features(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/v1/features", tags=["features"])

    @router.get("", response_model=answers.Page)
    def features(
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
        size: Annotated[int, Query(ge=1, le=200)] = 50,
        sort: Sort = "feature",
        order: Literal["ascending", "descending"] = "ascending",
        verdict: Verdict | None = None,
        text: Annotated[str | None, Query(max_length=100)] = None,
        label: Annotated[str | None, Query(max_length=100)] = None,
    ) -> dict[str, Any]:
        """Return a page of features; `text` is part of a name or definition, `label` the label correlated with most."""
        total, rows = desk.atlas.page(FeatureQuery(page, size, sort, order == "descending", verdict, text, label))
        return {"total": total, "page": page, "size": size, "features": rows}

    @router.get("/{feature}", response_model=answers.WholeFeature)
    def feature(feature: Annotated[int, PathPart(ge=0, lt=2**31)]) -> dict[str, Any]:
        """Return one feature with its correlations, its histogram and its strongest images."""
        return desk.atlas.one(feature)

    return router


def _query(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["features"])

    @router.get("/query", response_model=answers.QueryAnswer)
    async def query(
        text: Annotated[str, Query(min_length=1, max_length=desk.limits.text)],
        features: Annotated[int, Query(ge=1, le=50)] = 3,
        images: Annotated[int, Query(ge=0, le=200)] = 10,
        split: Split | None = None,
        by: Way | None = None,
        ranking: Ranking = "strength",
        exactly: bool = False,
    ) -> QueryAnswer:
        """Return the features nearest to a text, and the images that show them most: by the encoder's text half if
        the run has one, else by the words of names and definitions, or as `by` says. With "model" the run's model picks
        at most `features` names, or `exactly` so many. No image has what the text negates."""
        if by == "model":
            return await desk.query_model(text, features, images, split, ranking, exactly)
        return await desk.work(desk.query, text, features, images, split, by, ranking)

    return router


def _images(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["images"])

    @router.post("/encode", response_model=answers.Encoded, openapi_extra=_body({"image": _FILE}, raw=True))
    async def encode(
        request: Request, top: Annotated[int, Query(ge=1, le=200)] = 10, named: bool = True
    ) -> dict[str, Any]:
        """Return the strongest features of an image, by default those with a name: a PNG, JPEG or DICOM file as the
        body, or as `image` of a multipart body."""
        data = await image_bytes(request, desk.limits)
        return await desk.encode(data, top, named)

    @router.get("/similar", response_model=answers.SimilarAnswer)
    async def similar_of_run(
        image_id: Annotated[str, Query(min_length=1, max_length=desk.limits.text)],
        k: Annotated[int, Query(ge=1, le=200)] = 5,
        images: Annotated[int, Query(ge=1, le=200)] = 10,
        split: Split | None = None,
    ) -> SimilarAnswer:
        """The images of other patients that share the k strongest features of an image of the run."""
        return await desk.work(desk.similar_of_run, image_id, k, images, split)

    @router.post("/similar", response_model=answers.SimilarAnswer, openapi_extra=_body({"image": _FILE}, raw=True))
    async def similar(
        request: Request,
        k: Annotated[int, Query(ge=1, le=200)] = 5,
        images: Annotated[int, Query(ge=1, le=200)] = 10,
        split: Split | None = None,
    ) -> SimilarAnswer:
        """The images of the run that share an image's k strongest features: a PNG, JPEG or DICOM file as the body, or
        as `image` of a multipart body."""
        return await desk.similar(await image_bytes(request, desk.limits), k, images, split)

    @router.post(
        "/name", response_model=answers.NameAnswer, openapi_extra=_body({"group_a": [_FILE], "group_b": [_FILE]})
    )
    async def name(request: Request) -> dict[str, Any]:
        """Name the concept that the images of group A show and those of group B do not."""
        engine, rules = desk.vlm()
        form = await read_form(request, desk.limits, files=("group_a", "group_b"))
        a, b = form.files["group_a"], form.files["group_b"]
        vlm.check_groups(len(a), len(b), rules)
        pictures_a = await desk.pictures(a, "group_a", rules.image_size)
        pictures_b = await desk.pictures(b, "group_b", rules.image_size)
        return await vlm.name(engine, pictures_a, pictures_b, rules_of(rules))

    text = {"type": "string", "minLength": 1, "maxLength": desk.limits.text}
    parts = {"images": [_FILE], "names": [text], "definitions": [text]}

    @router.post("/detect", response_model=answers.DetectAnswer, openapi_extra=_body(parts, optional=("definitions",)))
    async def detect(request: Request) -> dict[str, Any]:
        """Return the engine's probability of yes that each name is visible in each image."""
        engine, rules = desk.vlm()
        form = await read_form(request, desk.limits, ("images",), ("names", "definitions"))
        files, most = form.files["images"], desk.limits.images
        if not 1 <= len(files) <= most:
            raise Problem(422, "invalid", f"{len(files)} images were sent, 1 to {most} are taken", "images")
        asked = vlm.concepts(form.texts["names"], form.texts["definitions"], desk.limits)
        return await vlm.detect(engine, await desk.pictures(files, "images", rules.image_size), asked)

    return router


def _chat(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI's API"])

    @router.get("/models", response_model=answers.Models)
    async def models() -> dict[str, Any]:
        """List the names of the engine's model; all mean the same one."""
        cards = [{"id": name, "object": "model", "created": 0, "owned_by": "medsae-ray"} for name in desk.models()]
        return {"object": "list", "data": cards}

    @router.post("/chat/completions", response_model=None, responses={200: {"content": {EVENTS: {}}}})
    async def completions(request: ChatRequest) -> dict[str, Any] | StreamingResponse:
        """Answer as OpenAI's chat API does, with `stream` piece by piece. Images come as data: URLs; no other is
        read."""
        engine, rules = desk.vlm()
        chat.check(request, desk.models(), rules, desk.limits)
        await desk.work(chat.draw_images, request, partial(desk.picture, side=rules.image_size))
        if request.stream:
            return StreamingResponse(await chat.stream(engine, request, desk.limits), media_type=EVENTS)
        return await chat.answer(engine, request, desk.limits)

    return router


def _body(parts: dict[str, Any], optional: tuple[str, ...] = (), raw: bool = False) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the route reads itself; a list marks a part that may be
    repeated."""
    properties = {
        name: {"type": "array", "items": part[0], "minItems": 1} if isinstance(part, list) else part
        for name, part in parts.items()
    }
    required = [name for name in parts if name not in optional]
    form = {"schema": {"type": "object", "properties": properties, "required": required}}
    kinds = {kind: {"schema": _FILE} for kind in RAW} if raw else {}
    return {"requestBody": {"required": True, "content": {FORM: form, **kinds}}}
