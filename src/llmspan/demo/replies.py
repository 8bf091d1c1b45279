"""What the demo server answers: from a path and a request body to status, headers and events. Pure.

All texts and numbers are our own; the shapes are those of late 2026. Two model names misbehave on purpose:
``demo-overloaded`` is refused (so fast that SDK retries take no time), ``demo-cut`` breaks off half-way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from . import anthropic_replies, openai_replies
from .parts import Answer, JsonObject, new_id

__all__ = ["CUT", "OVERLOADED", "answer", "refusal"]

OVERLOADED: Final = "demo-overloaded"
CUT: Final = "demo-cut"

_ROUTES: Final[dict[str, Callable[[JsonObject], Answer]]] = {
    "/v1/chat/completions": openai_replies.chat,
    "/v1/responses": openai_replies.responses,
    "/v1/embeddings": openai_replies.embeddings,
    "/v1/messages": anthropic_replies.messages,
    "/v1/messages/count_tokens": anthropic_replies.count_tokens,
}


def answer(path: str, request: JsonObject) -> Answer:
    """The answer to a POST."""
    route = _ROUTES.get(path.partition("?")[0])
    if route is None:
        return refusal(path, 404, "not_found_error", f"the demo server has no {path}")
    if request.get("model") == OVERLOADED:
        return _overloaded(path)
    return replace(route(request), is_cut=request.get("model") == CUT)


def refusal(path: str, status: int, kind: str, message: str) -> Answer:
    """An error in the shape of the provider that ``path`` belongs to."""
    request_id = new_id("req")
    if _is_anthropic(path):
        body: JsonObject = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
        return Answer(status=status, headers={"request-id": request_id}, body=body)
    body = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
    return Answer(status=status, headers={"x-request-id": request_id}, body=body)


def _overloaded(path: str) -> Answer:
    """529 as Anthropic sends it, 429 as OpenAI does; the SDKs may come back in 20 ms."""
    if _is_anthropic(path):
        reply = refusal(path, 529, "overloaded_error", "Overloaded")
    else:
        reply = refusal(path, 429, "rate_limit_exceeded", "The demo model is always overloaded.")
    return replace(reply, headers={**reply.headers, "retry-after-ms": "20"})


def _is_anthropic(path: str) -> bool:
    return path.startswith("/v1/messages")
