"""The pages of a study, and the few requests that they make."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from simgan.errors import SimganError, require_extra
from simgan.evaluation.turing import REAL
from simgan.templates import open_templates
from simgan.turing.guard import LocalOnly
from simgan.turing.results import (
    accuracy_in_words,
    automatic_in_words,
    gather_results,
    p_in_words,
    sentence,
    times_in_words,
)
from simgan.turing.sessions import RefusedError, Session
from simgan.turing.study import Study

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_MOST_BYTES = 4096  # of a request's body
_PIXELATED = 96  # px: up to here every pixel is shown


def make_app(study: Study, *, port: int) -> LocalOnly:
    """The ASGI application that serves `study` at that port; `MissingExtraError` without Starlette or Jinja2."""
    templates = open_templates("simgan.turing", extra="turing")
    require_extra("starlette", extra="turing")
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def page(template: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(templates.get_template(template).render(**values))

    async def start_page(_: Request) -> Response:
        return page("start.html", study=study, sessions=list(study.sessions.by_id.values()))

    async def test_page(request: Request) -> Response:
        session = _session(study, request.path_params["session"])
        examples = {
            side: [name for name, shown in study.sessions.examples[session.comparison] if shown.side == side]
            for side in (REAL, session.comparison)
        }
        height, width = study.size
        return page(
            "test.html",
            session=session,
            examples=examples,
            height=height,
            width=width,
            pixelated=max(height, width) <= _PIXELATED,
        )

    async def results_page(_: Request) -> Response:
        results = gather_results(study.record, study.answers)
        words = {
            "sentence": sentence,
            "accuracy": accuracy_in_words,
            "p": p_in_words,
            "times": times_in_words,
            "automatic": automatic_in_words,
        }
        return page("results.html", results=results, study=study, **words)

    async def results_csv(_: Request) -> Response:
        text = gather_results(study.record, study.answers).csv()
        name = {"content-disposition": 'attachment; filename="turing-answers.csv"'}
        return PlainTextResponse(text, media_type="text/csv; charset=utf-8", headers=name)

    async def picture(request: Request) -> Response:
        try:
            data = study.picture(request.path_params["name"])
            # The next image is fetched ahead, so that it is there at once.
            return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=600"})
        except KeyError:
            raise RefusedError(404, "there is no such picture") from None

    async def state(request: Request) -> Response:
        return JSONResponse(_session(study, request.path_params["session"]).state())

    async def start(request: Request) -> Response:
        asked = await _fields(request, {"comparison", "subject"})
        return JSONResponse({"session": study.sessions.start(asked["comparison"], asked["subject"]).id})

    async def answer(request: Request) -> Response:
        asked = await _fields(request, {"session", "picture", "said", "response_sec"})
        session = _session(study, asked.pop("session"))
        study.sessions.answer(session, **asked)
        return JSONResponse(session.state())

    async def undo(request: Request) -> Response:
        asked = await _fields(request, {"session", "picture"})
        session = _session(study, asked["session"])
        study.sessions.undo(session, picture=asked["picture"])
        return JSONResponse(session.state())

    async def style(_: Request) -> Response:
        return Response(_file("turing.css"), media_type="text/css; charset=utf-8")

    async def script(_: Request) -> Response:
        return Response(_file("turing.js"), media_type="text/javascript; charset=utf-8")

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse({"refused": error.reason}, status_code=error.status)

    async def failed(_: Request, error: Exception) -> Response:
        return JSONResponse({"refused": str(error)}, status_code=507)

    async def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=400)

    routes = [
        Route("/", start_page),
        Route("/test/{session}", test_page),
        Route("/results", results_page),
        Route("/results.csv", results_csv),
        Route("/picture/{name}.png", picture),
        Route("/state/{session}", state),
        Route("/start", start, methods=["POST"]),
        Route("/answer", answer, methods=["POST"]),
        Route("/undo", undo, methods=["POST"]),
        Route("/turing.css", style),
        Route("/turing.js", script),
    ]
    handlers = {RefusedError: refused, SimganError: failed, ClientDisconnect: gone}
    return LocalOnly(Starlette(routes=routes, exception_handlers=handlers), port=port)


def _session(study: Study, name: object) -> Session:
    try:
        return study.find(name if isinstance(name, str) else "")
    except KeyError:
        raise RefusedError(404, "there is no such session") from None


async def _fields(request: Request, names: set[str]) -> dict[str, Any]:
    """The JSON object of a request, with just these fields; `RefusedError` for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, "application/json is wanted")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise RefusedError(413, f"at most {_MOST_BYTES:,} bytes are read")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is not JSON") from None
    if not isinstance(asked, dict) or asked.keys() != names:
        raise RefusedError(422, f"an object with the fields {', '.join(sorted(names))} is wanted")
    return asked


def _file(name: str) -> bytes:
    return (files("simgan.turing") / "template" / name).read_bytes()
