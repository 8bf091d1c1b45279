"""Templates: every value is escaped, and the functions of :mod:`.formats` are at hand in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from .._version import __version__
from . import formats
from .snippets import loading_program
from .store import Store

__all__ = ["page_of", "query_string", "render", "store_of", "term"]

_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def query_string(**parameters: str | int | None) -> str:
    """A query string of the parameters that have a value, with ``?`` before it; empty if none has."""
    pairs = {name: value for name, value in parameters.items() if value is not None and value != ""}
    return f"?{urlencode(pairs)}" if pairs else ""


def page_of(kind: str, identifier: str) -> str:
    """The address of the page of a call, trace, run or conversation, whatever characters its id has."""
    return f"/{kind}/{quote(identifier, safe='')}"


def term(key: str, value: str) -> str:
    """A term of the filter line that means exactly ``value``."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}:"{escaped}"'


cast("dict[str, Any]", _ENVIRONMENT.globals).update(
    count=formats.count,
    short_count=formats.short_count,
    duration=formats.duration,
    money=formats.money,
    percent=formats.percent,
    rate=formats.rate,
    iso_time=formats.iso_time,
    loading_program=loading_program,
    query_string=query_string,
    page_of=page_of,
    term=term,
    version=__version__,
)


def render(request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """The page that ``template`` makes of ``values``."""
    text = _ENVIRONMENT.get_template(template).render(
        path=request.url.path, location=request.app.state.location, **values
    )
    return HTMLResponse(text, status)


def store_of(request: Request) -> Store:
    """The store that the application reads."""
    return cast("Store", request.app.state.store)
