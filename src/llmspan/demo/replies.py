"""What the demo server answers: from a path and a request body to status, headers and events. Pure.

All texts and numbers are our own; the shapes are those of late 2026. Two model names misbehave on purpose:
``demo-overloaded`` is refused (so fast that SDK retries take no time), ``demo-cut`` breaks off half-way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from . import anthropic_replies, google_replies, openai_replies
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
    route, model = _ROUTES.get(path.partition("?")[0]), request.get("model")
    if google_replies.is_google(path):
        model, action = path.rpartition("/")[2].partition("?")[0].split(":", 1)
        route = _google_route(action, model)
    if route is None:
        return refusal(path, 404, "not_found_error", f"the demo server has no {path}")
    if model == OVERLOADED:
        return _overloaded(path)
    return replace(route(request), is_cut=model == CUT)


def _google_route(action: str, model: str) -> Callable[[JsonObject], Answer] | None:
    """The Gemini API names the model in the path."""
    routes = {"generateContent": google_replies.generate_content,
              "streamGenerateContent": google_replies.stream_generate_content}  # fmt: skip
    return partial(routes[action], model=model) if action in routes else None


def refusal(path: str, status: int, kind: str, message: str) -> Answer:
    """An error in the shape of the provider that ``path`` belongs to."""
    if google_replies.is_google(path):
        status_name = {429: "RESOURCE_EXHAUSTED", 404: "NOT_FOUND"}.get(status, "INVALID_ARGUMENT")
        return Answer(status=status, body={"error": {"code": status, "message": message, "status": status_name}})
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
