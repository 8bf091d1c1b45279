"""Message Batches: the batch as it is made (``POST /v1/messages/batches``) and the lines of its results.

Source: anthropic ``MessageBatch``, ``MessageBatchIndividualResponse``; results are one JSON object a line. A result is
a message, an error, or neither (canceled, expired).
"""

from __future__ import annotations

import json
from typing import ClassVar, Final

from ..batch_result import BatchResult
from ..reply import Reply, ReplyError, obj, read_error, text
from .anthropic_messages import MessagesParser
from .json_body import BodyParser

#: operation and API of a request
_MESSAGE_CALL: Final = ("chat", "messages")


class BatchesParser(BodyParser):
    """Reads a batch. Of results, which are lines, it only counts that they came: :func:`read_result` reads those."""

    plain: ClassVar = "text"


def read_result(line: bytes) -> BatchResult | None:
    """The result on one line; None if it is not one (half a line of a body that was cut)."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    result = obj(obj(data).get("result"))
    kind = text(result.get("type"))
    if kind is None:
        return None
    custom_id = text(data.get("custom_id"))
    message = result.get("message")
    if isinstance(message, dict):
        parser = MessagesParser()
        parser.body(message)
        return BatchResult(custom_id, custom_id, kind, parser.reply(), message, *_MESSAGE_CALL)
    error = read_error(result.get("error"))
    if error is None and kind == "expired":
        error = ReplyError(type=kind)
    reply = Reply(error=error, terminal=True)
    return BatchResult(custom_id, custom_id, kind, reply, result.get("error"), *_MESSAGE_CALL)
