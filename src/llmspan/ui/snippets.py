"""A call as a program: Python and curl, with the key as a variable; and the program that loads the calls of a page.

Pure; nothing that was masked comes back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from ..trace import ProviderTrace
from . import gemini_snippets
from .snippet_texts import base_url, curl, sdk_call

__all__ = ["Snippets", "loading_program", "snippets_of"]


@dataclass(frozen=True, slots=True)
class Snippets:
    """What a call is as a program; None where the API is not one that can be written down."""

    python: str | None
    curl: str | None


@dataclass(frozen=True, slots=True)
class _Route:
    sdk: str
    method: str
    path: str


_ROUTES: Final = {
    "chat_completions": _Route("openai", "chat.completions.create", "/v1/chat/completions"),
    "responses": _Route("openai", "responses.create", "/v1/responses"),
    "completions": _Route("openai", "completions.create", "/v1/completions"),
    "embeddings": _Route("openai", "embeddings.create", "/v1/embeddings"),
    "messages": _Route("anthropic", "messages.create", "/v1/messages"),
}
#: a longer request is no snippet that one reads; its JSON can be downloaded
LONGEST: Final = 20_000
_CLIENTS: Final = {"openai": "OpenAI", "anthropic": "Anthropic"}
_HOSTS: Final = {"openai": "api.openai.com", "anthropic": "api.anthropic.com"}
_KEYS: Final = {
    "openai": '-H "Authorization: Bearer $OPENAI_API_KEY"',
    "anthropic": '-H "x-api-key: $ANTHROPIC_API_KEY" -H "anthropic-version: 2023-06-01"',
}


def snippets_of(record: ProviderTrace) -> Snippets:
    """The call of ``record``, as far as its request was stored and its API can be written down."""
    route, body = _ROUTES.get(record.api), _body(record)
    is_long = len(record.request_json or "") > LONGEST
    if body is None or is_long or record.content != "full":
        return Snippets(None, None)
    if record.api in gemini_snippets.APIS:
        return Snippets(
            _unless_too_deep(lambda: gemini_snippets.python_snippet(record, body)),
            _unless_too_deep(lambda: gemini_snippets.curl_snippet(record, body)),
        )
    if route is None:
        return Snippets(None, None)
    return Snippets(
        _unless_too_deep(lambda: _python(record, route, body)), _unless_too_deep(lambda: _curl(record, route, body))
    )


def _unless_too_deep(write: Callable[[], str | None]) -> str | None:
    """What ``write`` makes of a request; None if that is nested deeper than can be written."""
    try:
        return write()
    except RecursionError:
        return None


def _body(record: ProviderTrace) -> dict[str, Any] | None:
    try:
        body = json.loads(record.request_json or "")
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else None


def _python(record: ProviderTrace, route: _Route, body: dict[str, Any]) -> str:
    base = base_url(record, _HOSTS[route.sdk])
    if base is not None and route.sdk == "openai":
        base += "/v1"
    client = _CLIENTS[route.sdk]
    construction = f"{client}()" if base is None else f"{client}(base_url={base!r})"
    return sdk_call(
        f"from {route.sdk} import {client}", construction, route.method, body, stream=bool(body.get("stream"))
    )


def _curl(record: ProviderTrace, route: _Route, body: dict[str, Any]) -> str:
    host = _HOSTS[route.sdk]
    return curl((base_url(record, host) or f"https://{host}") + route.path, _KEYS[route.sdk], body)


def loading_program(location: str, query: str, group: str | None) -> str:
    """A Python program that loads the calls of a page as a data frame."""
    backend, _, path = location.partition(" ")
    arguments = f"backends={backend!r}" + (f", sqlite_path={path!r}" if backend == "sqlite" else "")
    lines = ["import llmspan", "", f"filters = llmspan.Filters.parse({query!r})"]
    if group:
        lines.insert(0, "from dataclasses import replace\n")
        lines.append(f"group = llmspan.Filters.parse({group!r}).all_conditions()")
        lines.append("filters = replace(filters, conditions=(*filters.conditions, *group))")
    lines.append(f"with llmspan.Reader.from_env({arguments}) as reader:")
    lines.append("    calls = reader.to_pandas(filters)  # payload=True: with requests and responses")
    lines.append("print(calls)")
    return "\n".join(lines) + "\n"
