"""A batch of the Gemini API that has ended, and the results in it: of generated contents and of embeddings.

Source: google-genai ``types.BatchJob``, ``InlinedResponse``, ``InlinedEmbedContentResponse`` and ``JobError``, whose
code is one of google.rpc.Code. Results in a file are not in the batch.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple

from ...usage import Usage
from ..batch_result import BatchResult
from ..reply import JsonObject, Reply, ReplyError, obj, objects, read_error, text
from .gemini import GenerateContentParser

__all__ = ["GeminiBatch", "may_have_results", "read_batch"]

_RESULTS: Final = re.compile(rb'"inlinedResponses"\s*:')
#: google.rpc.Code
_CODES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_CANCELLED: Final = "CANCELLED"
#: operation and API of a request of either kind of batch
_CONTENT: Final = ("generate_content", "generate_content")
_EMBEDDING: Final = ("embeddings", "embed_content")


class GeminiBatch(NamedTuple):
    """What is read of a batch; ``created`` and ``ended`` are None where it does not say both."""

    model: str | None
    created: datetime | None
    ended: datetime | None
    results: list[BatchResult]


def may_have_results(body: bytes) -> bool:
    """Whether a response of ``batches.get`` has results; it is not parsed."""
    return _RESULTS.search(body) is not None


def read_batch(data: JsonObject) -> GeminiBatch:
    """The batch in a response of ``batches.get``. A result without a key of its own has its number as its id."""
    metadata = obj(data.get("metadata"))
    # the operation has its output as its response, too
    outputs = (obj(metadata.get("output")), obj(data.get("response")))
    results = next(filter(None, map(_items, outputs)), [])
    times = [_time(metadata.get(key)) for key in ("createTime", "endTime")]
    created, ended = times if all(times) else (None, None)
    return GeminiBatch(
        text(metadata.get("model")), created, ended, [_result(number, item) for number, item in enumerate(results)]
    )


def _items(output: JsonObject) -> list[JsonObject]:
    """The results in the output of a batch."""
    for key in ("inlinedResponses", "inlinedEmbedContentResponses"):
        inlined = output.get(key)
        items = objects(inlined if isinstance(inlined, list) else obj(inlined).get("inlinedResponses"))
        if items:
            return items
    return []


def _result(number: int, item: JsonObject) -> BatchResult:
    metadata = obj(item.get("metadata"))
    custom_id = text(metadata.get("key")) or str(number)
    response = item.get("response")
    if isinstance(response, dict):
        return _answer(custom_id, obj(response))
    error = item.get("error")
    read = read_error(error) or ReplyError()
    code = obj(error).get("code")
    if type(code) is int and 0 < code < len(_CODES):  # a bool is none
        read = replace(read, code=_CODES[code])
    kind = "canceled" if read.code == _CANCELLED else "errored"
    return BatchResult(custom_id, kind, Reply(error=read, terminal=True), error, *_CONTENT)


def _answer(custom_id: str, response: JsonObject) -> BatchResult:
    if "embedding" in response:
        count = response.get("tokenCount")
        usage = Usage() if count is None else Usage.from_raw({"tokenCount": count})
        return BatchResult(custom_id, "succeeded", Reply(usage=usage, terminal=True), response, *_EMBEDDING)
    parser = GenerateContentParser()
    parser.body(response)
    return BatchResult(custom_id, "succeeded", parser.reply(), response, *_CONTENT)


def _time(value: object) -> datetime | None:
    """A time of RFC 3339 with up to nine digits of a second, of which Python reads six."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
