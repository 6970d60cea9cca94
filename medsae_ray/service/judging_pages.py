"""The pages on which readers judge: plain forms, which need no script and lead back to the page that shows the result.

Before a reader has voted on a feature, its page shows neither the verdict nor what others said, unless asked to.
"""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi import Path as PathPart
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from medsae_ray.core.judgements.record import VOTES, Kind
from medsae_ray.service.errors import Problem
from medsae_ray.service.html import page, script
from medsae_ray.service.judging import Judging
from medsae_ray.service.visitors import SIGN_IN, reader_of

Number = Annotated[int, PathPart(ge=0, lt=2**31)]
StudyName = Annotated[str, PathPart(max_length=64)]
Text = Annotated[str, Form(max_length=2000)]


def router(judging: Judging) -> APIRouter:
    """Return the routes of the pages, their images and their script."""
    found = APIRouter(include_in_schema=False)
    _features(found, judging)
    _studies(found, judging)

    @found.get("/judge/{feature}/{rank}.png")
    def image(feature: Number, rank: Number) -> Response:
        """Return the feature's image of a rank, the strongest first."""
        return Response(judging.picture(feature, rank), media_type="image/png")

    @found.get("/judging.js")
    def keys() -> Response:
        """Return the script that lets keys press the buttons of a vote."""
        return Response(script("judging.js"), media_type="text/javascript")

    return found


def _features(found: APIRouter, judging: Judging) -> None:
    @found.get("/judge/{feature}")
    def feature(request: Request, feature: Number, verdict: str = "") -> HTMLResponse:
        """Show a feature with the forms, and its verdict once the reader has voted or wants to see it."""
        reader, said = reader_of(request.headers), judging.of_run(feature).judgements
        voted = any(one.kind == "vote" and one.reader == reader for one in said)
        shown = voted or verdict == "shown"
        seen = {"whole": judging.desk.atlas.one(feature), "judgements": said} if shown else {}
        context = {"about": judging.blind(feature), "reader": reader, "blind": not shown, "action": f"/judge/{feature}"}
        return HTMLResponse(page("judge.html.j2", **context, shown=seen, **_form()))

    @found.post("/judge/{feature}")
    def judge(
        feature: Number,
        reader: Text = "",
        kind: Annotated[Kind, Form()] = "vote",
        value: Text = "",
        reason: Text = "",
        blind: Annotated[bool, Form()] = False,
        key: Text = "",
    ) -> Response:
        """Keep what a form says, and lead back to the feature."""
        judging.judge(reader, feature, kind, value or None, reason or None, blind, None, key or None)
        return RedirectResponse(f"/judge/{feature}" + ("" if blind else "?verdict=shown"), 303)


def _studies(found: APIRouter, judging: Judging) -> None:
    @found.get("/study")
    def studies() -> HTMLResponse:
        """Show the studies of the run, and the form for another."""
        return HTMLResponse(page("studies.html.j2", names=judging.studies()))

    @found.post("/study")
    def start(
        name: Text,
        seed: Annotated[int, Form(ge=0, lt=2**31)] = 0,
        size: Annotated[int, Form(ge=1, le=10_000)] = 20,
    ) -> Response:
        """Make a study, and lead to it."""
        return RedirectResponse(f"/study/{judging.start(name, seed, size).name}", 303)

    @found.get("/study/{name}")
    def study(request: Request, name: StudyName) -> Response:
        """Show the next feature of the reader, or the agreement at the end."""
        reader, known = reader_of(request.headers), judging.study(name)
        if not reader:
            return RedirectResponse(f"{SIGN_IN}?next=/study/{name}", 303)
        left = known.left(reader, judging.of_run(reader=reader, study=name).judgements)
        context: dict[str, Any] = {"study": name, "reader": reader, "count": len(known.features), "left": len(left)}
        if not left:
            agreed = judging.agreement(name, blind=True)
            return HTMLResponse(page("study_end.html.j2", **context, agreed=agreed))
        context |= {"about": judging.blind(left[0]), "action": f"/study/{name}"}
        return HTMLResponse(page("study.html.j2", **context, **_form()))

    @found.post("/study/{name}")
    def vote(
        request: Request,
        name: StudyName,
        feature: Annotated[int, Form(ge=0)],
        value: Text,
        reason: Text = "",
        key: Text = "",
    ) -> Response:
        """Keep a vote, and lead to the next feature."""
        reader = reader_of(request.headers)
        if not reader:
            raise Problem(422, "invalid", "sign in with your name first", "reader")
        judging.judge(reader, feature, "vote", value, reason or None, True, name, key or None)
        return RedirectResponse(f"/study/{name}", 303)


def _form() -> dict[str, Any]:
    """Return what each form needs: the votes, and a key, so that a form that is sent twice counts once."""
    return {"votes": VOTES, "new_key": lambda: uuid.uuid4().hex}
