"""A batch of the Gemini API that has ended, and the results in it: of generated contents and of embeddings.

Source: google-genai ``types.BatchJob``, ``InlinedResponse``, ``InlinedEmbedContentResponse`` and ``JobError``, whose
code is one of google.rpc.Code. Results in a file are not in the batch. A batch may be large: its results are found
first and read one by one.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from ...usage import Usage
from ..batch_result import BatchResult
from ..reply import JsonObject, Reply, ReplyError, obj, read_error, text
from .gemini import GenerateContentParser

__all__ = ["GeminiBatch", "may_have_results", "read_batch", "read_result"]

#: within a string its quotes would be escaped
_RESULTS: Final = re.compile(r'"inlinedResponses"\s*:\s*\[')
_ANY_RESULT: Final = re.compile(rb'"inlinedResponses"\s*:\s*\[\s*[^\s\]]')
_SPACE: Final = re.compile(r"\s*")
_DECODER: Final = json.JSONDecoder()
#: google.rpc.Code
_CODES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_CANCELLED: Final = "CANCELLED"
#: operation and API of a request of either kind of batch
_CONTENT_CALL: Final = ("generate_content", "generate_content")
_EMBEDDING_CALL: Final = ("embeddings", "embed_content")


class GeminiBatch(NamedTuple):
    """What is read of a batch. ``results``: the JSON of each, in the order of the requests."""

    model: str | None
    created: datetime | None
    ended: datetime | None
    results: list[str]


def may_have_results(body: bytes) -> bool:
    """Whether a response of ``batches.get`` has results; it is not parsed."""
    return _ANY_RESULT.search(body) is not None


def read_batch(body: str) -> GeminiBatch:
    """The batch in a response of ``batches.get``.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    without_results, results = _split(body)
    metadata = obj(obj(json.loads(without_results)).get("metadata"))
    created, ended = (_time(metadata.get(key)) for key in ("createTime", "endTime"))
    return GeminiBatch(text(metadata.get("model")), created, ended, results)


def read_result(number: int, item: str) -> BatchResult | None:
    """The result with this number; None if it is no object. One without a key of its own has its number as that."""
    data = json.loads(item)
    if not isinstance(data, dict):
        return None
    result = obj(data)
    # the key is the program's, which may use it twice: the number is the id
    custom_id = text(obj(result.get("metadata")).get("key")) or str(number)
    reply, kind, response, call = _answer(result)
    return BatchResult(str(number), custom_id, kind, reply, response, *call)


def _split(body: str) -> tuple[str, list[str]]:
    """``body`` with empty lists of results, and the results. The operation has them as its response once more."""
    pieces: list[str] = []
    results: list[str] = []
    at = 0
    while match := _RESULTS.search(body, at):
        pieces.append(body[at : match.end()])
        found, at = _items(body, match.end())
        results = results or found
    return "".join([*pieces, body[at:]]), results


def _items(body: str, start: int) -> tuple[list[str], int]:
    """The JSON of each item of the list that begins before ``start``, and where the list ends."""
    items: list[str] = []
    at = _behind_space(body, start)
    while body[at : at + 1] not in ("]", ""):
        _, end = _DECODER.raw_decode(body, at)
        items.append(body[at:end])
        at = _behind_space(body, end)
        if body[at : at + 1] == ",":
            at = _behind_space(body, at + 1)
    return items, at


def _behind_space(body: str, at: int) -> int:
    match = _SPACE.match(body, at)
    return at if match is None else match.end()


def _answer(result: JsonObject) -> tuple[Reply, str, Any, tuple[str, str]]:
    """What was answered to the request: the reply, its kind, the response or error, and the kind of call."""
    response = obj(result.get("response"))
    if "embedding" in response:
        return Reply(usage=_embedding_usage(response), terminal=True), "succeeded", response, _EMBEDDING_CALL
    if response:
        parser = GenerateContentParser()
        parser.body(response)
        reply = parser.reply()
        return reply, "succeeded" if reply.error is None else "errored", response, _CONTENT_CALL
    error = _error(result.get("error"))
    kind = "canceled" if error.code == _CANCELLED else "errored"
    return Reply(error=error, terminal=True), kind, result.get("error"), _CONTENT_CALL


def _error(value: object) -> ReplyError:
    error = read_error(value) or ReplyError()
    code = obj(value).get("code")
    if type(code) is int and 0 < code < len(_CODES):  # a bool is none
        return replace(error, code=_CODES[code])
    return error


def _embedding_usage(response: JsonObject) -> Usage:
    """The tokens of one embedding, which JSON of protocol buffers may have as text."""
    count = response.get("tokenCount")
    number = int(count) if isinstance(count, str) and count.isdecimal() else count
    if type(number) is not int:
        return Usage()
    return Usage(input_tokens=number, source="provider", raw={"tokenCount": count})


def _time(value: object) -> datetime | None:
    """A time of RFC 3339; of up to nine digits of a second Python reads six."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
