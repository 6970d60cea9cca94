"""The routes. A few threads of their own decode and encode every image, so no caller stops the others."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import metadata
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi import Path as PathPart
from fastapi.security import HTTPBearer

from medsae_ray.config import Naming
from medsae_ray.core.naming.pictures import picture
from medsae_ray.core.retrieval.answer import QueryAnswer, Ranking, SimilarAnswer, Way
from medsae_ray.core.retrieval.query import Library
from medsae_ray.core.retrieval.similar import Similar
from medsae_ray.errors import ImageError
from medsae_ray.finished import Finished, library_of
from medsae_ray.service import chat, vlm
from medsae_ray.service import responses as answers
from medsae_ray.service.atlas import Atlas, Sort, Verdict
from medsae_ray.service.atlas import Query as FeatureQuery
from medsae_ray.service.browser import browser
from medsae_ray.service.chat_request import ChatRequest
from medsae_ray.service.engine import Link
from medsae_ray.service.errors import Problem, install, of_image
from medsae_ray.service.image_encoder import ActiveFeatures, ImageEncoder
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.middleware import Guard
from medsae_ray.service.uploads import FORM, RAW, Uploads, image_bytes, read_form
from medsae_ray.stages.names import rules_of

T = TypeVar("T")
Split = Literal["sae", "naming", "detection"]
_FILE = {"type": "string", "format": "binary"}


class Desk:
    """What the routes share: the models of one finished run, and the threads that use them."""

    def __init__(self, run: Finished, engine: Link | None, limits: RequestLimits) -> None:
        self.run, self.engine, self.limits = run, engine, limits
        self.atlas, self.encoder = Atlas(run.atlas), ImageEncoder(run)
        images = run.recipe.what.images
        self.to_encode = Uploads.of(images, limits, self.encoder.side)
        self.to_show = Uploads.of(images, limits)
        self._threads = ThreadPoolExecutor(limits.threads, "image")
        self._opening = threading.Lock()

    async def work(self, do: Callable[..., T], *arguments: Any) -> T:
        """Run `do` in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, do, *arguments)

    def encode(self, data: bytes, top: int, named: bool) -> dict[str, Any]:
        """Decode and encode an image: its strongest `top` features (with `named`, of those with a name) and their
        counts. Problem if the image cannot be used."""
        image = self.to_encode.image(data, "image")
        try:
            active = self.encoder.active(image)
        except ImageError as error:
            raise of_image(error, "image") from None
        features = self._described(active)
        known = [feature for feature in features if feature["name"] is not None]
        counts = {"width": image.width, "height": image.height, "active": len(features), "named": len(known)}
        shown = (known if named else features)[:top]
        return counts | {"features": shown, "sae": self.run.sae.name, "atlas": self.run.atlas.name}

    def similar(self, data: bytes, k: int, images: int, split: str | None) -> SimilarAnswer:
        """Decode and encode an image, and find those of the run that share its strongest features. Problem if the image
        cannot be used."""
        image = self.to_encode.image(data, "image")
        try:
            active = self.encoder.active(image)
        except ImageError as error:
            raise of_image(error, "image") from None
        return self._similar.ask(self._similar.of_activations("image", active.feature, active.value), k, images, split)

    def similar_of_run(self, image_id: str, k: int, images: int, split: str | None) -> SimilarAnswer:
        """Find the images of other patients that share the strongest features of one of the run. Problem 404 if it has
        no image of that id."""
        query = self._similar.of_run(image_id)
        if query is None:
            raise Problem(404, "not_found", "the run has no image of that id", "query.image_id")
        return self._similar.ask(query, k, images, split)

    @cached_property
    def _similar(self) -> Similar:
        return Similar(self.run.artifacts)

    @cached_property
    def _library(self) -> Library:
        return library_of(self.run)

    def query(
        self, text: str, features: int, images: int, split: str | None, by: Way | None, ranking: Ranking
    ) -> QueryAnswer:
        """Answer a query in words; the first one loads all activations. See `Library.ask`."""
        return self._opened().ask(text, features, images, split, by, ranking)

    async def query_model(
        self, text: str, features: int, images: int, split: str | None, ranking: Ranking, exactly: bool
    ) -> QueryAnswer:
        """Answer a query by the engine's picks. See `Library.ask_model`. Problem 503 without an engine."""
        engine, _ = self.vlm()
        library = await self.work(self._opened)
        return await library.ask_model(engine, text, features, images, split, ranking, exactly)

    def _opened(self) -> Library:
        with self._opening:  # made on first use: it holds all activations, and perhaps a text encoder
            return self._library

    def pictures(self, files: list[bytes], where: str, side: int) -> list[bytes]:
        """Decode uploads into the pictures that the engine gets, of at most `side` pixels. Problem names the one at
        fault."""
        return [picture(self.to_show.image(data, f"{where}[{i}]"), side) for i, data in enumerate(files)]

    def models(self) -> tuple[str, ...]:
        """List the names by which a caller may ask for the engine's model: its identity and the recipe's name."""
        engine, _ = self.vlm()
        asked = self.run.recipe.how.vlm
        return (engine.identity, asked.model) if asked else (engine.identity,)

    def vlm(self) -> tuple[Link, Naming]:
        """Return the engine and the recipe's naming. Problem 503 if the run has none."""
        naming = self.run.recipe.what.naming
        if self.engine is None or naming is None:
            raise Problem(503, "no_engine", "this run's recipe names no vision-language model", retry_s=3600)
        return self.engine, naming

    def _described(self, active: ActiveFeatures) -> list[dict[str, Any]]:
        """Describe the features, the strongest first."""
        pairs = sorted(zip(active.value, active.feature, strict=True), key=lambda pair: (-pair[0], pair[1]))
        return [self.atlas.name(feature) | {"activation": value} for value, feature in pairs]


def make_app(desk: Desk, token: str | None) -> FastAPI:
    """Make the ASGI application. `token` is the digest of the token that callers have to send; None asks for none."""
    security = [Depends(HTTPBearer(auto_error=False))] if token else []
    app = FastAPI(
        title="medsae-ray",
        version=metadata.version("medsae-ray"),
        redoc_url=None,
        description="Concepts inside a medical image encoder. Not for clinical use: a feature is a correlate.",
        responses={"default": {"model": answers.Refusal, "description": "the request is not answered"}},
        dependencies=security,
    )
    install(app)
    app.include_router(_health(desk))
    app.include_router(_features(desk))
    app.include_router(_query(desk))
    app.include_router(_images(desk))
    app.include_router(_chat(desk))
    app.include_router(browser(desk.run))
    app.add_middleware(Guard, token=token, limits=desk.limits)
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
        return await desk.work(desk.encode, data, top, named)

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
        return await desk.work(desk.similar, await image_bytes(request, desk.limits), k, images, split)

    @router.post(
        "/name", response_model=answers.NameAnswer, openapi_extra=_body({"group_a": [_FILE], "group_b": [_FILE]})
    )
    async def name(request: Request) -> dict[str, Any]:
        """Name the concept that the images of group A show and those of group B do not."""
        engine, rules = desk.vlm()
        form = await read_form(request, desk.limits, files=("group_a", "group_b"))
        a, b = form.files["group_a"], form.files["group_b"]
        vlm.check_groups(len(a), len(b), rules)
        pictures_a = await desk.work(desk.pictures, a, "group_a", rules.image_size)
        pictures_b = await desk.work(desk.pictures, b, "group_b", rules.image_size)
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
        return await vlm.detect(engine, await desk.work(desk.pictures, files, "images", rules.image_size), asked)

    return router


def _chat(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI's API"])

    @router.get("/models", response_model=answers.Models)
    async def models() -> dict[str, Any]:
        """List the names of the engine's model; all mean the same one."""
        cards = [{"id": name, "object": "model", "created": 0, "owned_by": "medsae-ray"} for name in desk.models()]
        return {"object": "list", "data": cards}

    @router.post("/chat/completions")
    async def completions(request: ChatRequest) -> dict[str, Any]:
        """Answer as OpenAI's chat API does, without streaming. Images come as data: URLs; no other is read."""
        engine, rules = desk.vlm()
        chat.check(request, desk.models(), rules, desk.limits)

        def draw(data: bytes, where: str) -> bytes:
            return picture(desk.to_show.image(data, where), rules.image_size)

        await desk.work(chat.draw_images, request, draw)
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
