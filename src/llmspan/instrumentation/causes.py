"""Why an exception was raised: the exceptions behind it, as texts.

The SDKs raise ``Connection error.`` for a refused connection, an unknown host, a certificate and a server that hung up;
the exceptions that theirs was raised from say which of them it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from .._guard import guarded
from ..limits import cut_at_space
from ..redaction import MASK, mask_keys
from ..semconv import CAUSED_BY
from ..wire.error_types import class_name

_MAX_CAUSES: Final = 8
_MAX_LENGTH: Final = 1000
_USERINFO: Final = re.compile(r"(?<=://)[^\s/@]{1,500}(?=@)")


class Cause(NamedTuple):
    """One exception of a chain."""

    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


def causes_of(error: BaseException) -> tuple[Cause, ...]:
    """The exceptions that ``error`` was raised from, the nearest first, at most eight, each once."""
    visited = {id(error)}
    waiting, causes = [error], list[Cause]()
    while waiting and len(causes) < _MAX_CAUSES:
        for cause in _raised_from(waiting.pop(0)):
            if id(cause) not in visited and len(causes) < _MAX_CAUSES:
                visited.add(id(cause))
                waiting.append(cause)
                causes.append(Cause(class_name(type(cause)), _message(cause)))
    return tuple(causes)


def message_with_causes(message: str, causes: tuple[Cause, ...]) -> str:
    """``message``, and behind it each cause whose own message differs from those before."""
    parts, messages = [message], {message}
    for cause in causes:
        if not cause.message or cause.message not in messages:
            messages.add(cause.message)
            parts.append(str(cause))
    head, *tail = parts
    return f"{head} Caused by {'; caused by '.join(tail)}".strip() if tail else head


def causes_json(kind: type[BaseException], message: str, causes: tuple[Cause, ...]) -> dict[str, Any]:
    """An exception and its causes as a JSON value."""
    return {"type": class_name(kind), "message": message, CAUSED_BY: [cause._asdict() for cause in causes]}


def _raised_from(error: BaseException) -> Iterator[BaseException]:
    """The exceptions named by ``raise ... from``, wrapped in the arguments (as httpcore does), or of a group.

    ``__context__`` is left out: it may be an exception that the program was handling when it made the call.
    """
    if error.__cause__ is not None:
        yield error.__cause__
    yield from (argument for argument in error.args if isinstance(argument, BaseException))
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions[:_MAX_CAUSES]


def _message(error: BaseException) -> str:
    text = guarded("call.cause", str, error) or ""
    return cut_at_space(mask_keys(_USERINFO.sub(MASK, text[: 4 * _MAX_LENGTH])), _MAX_LENGTH)
