"""The application: which address is which page, and what a page says when something is wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ..errors import BackendError, LlmspanError, SettingsError
from ..reader import Reader
from .access import Access, AccessMiddleware
from .disconnects import DisconnectMiddleware
from .filtering import narrower
from .pages.call import call, call_json
from .pages.calls import calls, calls_json, events, previews
from .pages.complete import complete
from .pages.diff import diff, diff_json
from .pages.export import export
from .pages.health import Finding, health, health_json
from .pages.media import media
from .pages.notes import annotate, annotate_trace, notes, trace_notes
from .pages.run import KINDS, run, run_json
from .pages.usage import series, usage, usage_json
from .rendering import render
from .store import QUERIES, QUERY_TIMEOUT, QUEUE_TIMEOUT, BusyError, SlowError, Store

__all__ = ["build_app"]

_STATIC: Final = Path(__file__).parent / "static"


class _IdentifierConvertor(StringConvertor):
    """The rest of a path, whatever characters an id has: slashes, and line ends as well."""

    regex = "(?s:.+)"


register_url_convertor("identifier", _IdentifierConvertor())


def build_app(
    make_reader: Callable[[], Reader],
    access: Access,
    *,
    location: str,
    findings: Callable[[], Sequence[Finding]],
    queries: int = QUERIES,
    query_timeout: float = QUERY_TIMEOUT,
    queue_timeout: float = QUEUE_TIMEOUT,
) -> ASGIApp:
    """The viewer of the store that ``make_reader`` opens.

    ``location`` names the store to people, and ``findings`` looks whether all is well, in a thread. ``queries`` run at
    a time, each for ``query_timeout`` seconds at most; another waits ``queue_timeout`` seconds for one to end.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        app.state.store = Store(make_reader, queries=queries, timeout=query_timeout, queue_timeout=queue_timeout)
        yield
        app.state.store.close()

    app = Starlette(
        routes=[
            Route("/", calls),
            Route("/calls.json", calls_json),
            Route("/complete", complete),
            Route("/previews", previews),
            Route("/events", events),
            Route("/usage", usage),
            Route("/usage.json", usage_json),
            Route("/series.json", series),
            Route("/export/{format}", export),
            Route("/diff", diff),
            Route("/diff.json", diff_json),
            Route("/annotations/{id:identifier}", notes),
            Route("/annotations/{id:identifier}", annotate, methods=["POST"]),
            Route("/trace-annotations/{id:identifier}", trace_notes),
            Route("/trace-annotations/{id:identifier}", annotate_trace, methods=["POST"]),
            Route("/media/{id:identifier}", media),
            Route("/health", health),
            Route("/health.json", health_json),
            Route("/json/call/{id:identifier}", call_json),
            Route("/call/{id:identifier}", call),
            *(Route(f"/json/{kind}/{{id:identifier}}", run_json) for kind in KINDS),
            *(Route(f"/{kind}/{{id:identifier}}", run) for kind in KINDS),
            Route("/favicon.ico", _icon),  # asked for beside JSON, which names no icon
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        exception_handlers={LlmspanError: _explain, HTTPException: _http_error, Exception: _http_error},
        lifespan=lifespan,
    )
    app.state.location, app.state.findings = location, findings
    # access is around everything: an answer to a failure has its headers as well
    return AccessMiddleware(DisconnectMiddleware(app), access)


async def _explain(request: Request, error: Exception) -> Response:
    """An error of ours as a page: what the user asked wrongly, or what is the matter with the store."""
    if isinstance(error, SettingsError):
        title, status, remedy = "This filter cannot be read", 400, None
    elif isinstance(error, BusyError):
        title, status, remedy = "Too many queries are running", 503, None
    elif isinstance(error, SlowError):
        title, status, remedy = "This takes too long", 503, None
    elif isinstance(error, BackendError):
        title, status = "The store cannot be read", 503
        remedy = "This page works again as soon as the store does; `llmspan doctor` says more."
    else:
        title, status, remedy = "That does not work", 400, None
    links = narrower(request) if isinstance(error, SlowError) else []
    values = {"title": title, "text": str(error), "remedy": remedy, "links": links}
    response = render(request, "problem.html", values, status=status)
    if isinstance(error, BusyError):
        response.headers["Retry-After"] = "5"
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    title = "No such page" if status == 404 else "This cannot be done here"
    detail = error.detail if isinstance(error, HTTPException) else ""
    return render(request, "problem.html", {"title": title, "text": detail, "remedy": None}, status=status)


async def _icon(request: Request) -> Response:
    del request
    return FileResponse(_STATIC / "icon.svg")
