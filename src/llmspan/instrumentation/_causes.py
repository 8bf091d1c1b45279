"""Why an exception was raised: the exceptions behind it, as texts.

The SDKs say ``Connection error.`` for a refused connection, an unknown host, a certificate and a server that hung up;
which of them it was stands in the exceptions that theirs was raised from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from .._guard import guarded
from ..redaction import MASK, mask_keys
from ..semconv import CAUSED_BY
from ..wire.error_types import class_name

_MOST: Final = 8
_LONGEST: Final = 1000
_USERINFO: Final = re.compile(r"(?<=://)[^\s/@]{1,500}(?=@)")


class Cause(NamedTuple):
    """One exception of a chain."""

    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


def causes_of(error: BaseException) -> tuple[Cause, ...]:
    """The exceptions that ``error`` was raised from, the nearest first, at most eight, each once."""
    seen = {id(error)}
    waiting, causes = [error], list[Cause]()
    while waiting and len(causes) < _MOST:
        for behind in _raised_from(waiting.pop(0)):
            if id(behind) not in seen and len(causes) < _MOST:
                seen.add(id(behind))
                waiting.append(behind)
                causes.append(Cause(class_name(type(behind)), _message(behind)))
    return tuple(causes)


def message_with_causes(message: str, causes: tuple[Cause, ...]) -> str:
    """``message``, and behind it each cause that says something new."""
    parts, said = [message], {message}
    for cause in causes:
        if not cause.message or cause.message not in said:
            said.add(cause.message)
            parts.append(str(cause))
    head, *rest = parts
    return f"{head} Caused by {'; caused by '.join(rest)}".strip() if rest else head


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
        yield from error.exceptions[:_MOST]


def _message(error: BaseException) -> str:
    text = guarded("call.cause", str, error) or ""
    return mask_keys(_USERINFO.sub(MASK, text[: 4 * _LONGEST]))[:_LONGEST]  # before it may be cut in two
