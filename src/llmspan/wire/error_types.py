"""``error.type`` of a failed call: one rule for spans, metrics and records, whatever the error came by.

The provider's ``code`` if it names a class of errors, else its ``type`` if that does, else the HTTP status, else the
class of the exception, else ``_OTHER``. Values are few: numbers, sentences and ids are not used. docs/record.md lists
what providers send.
"""

from __future__ import annotations

import re
from typing import Final

from .reply import ReplyError

__all__ = ["class_name", "error_type"]

OTHER: Final = "_OTHER"

#: what the identifiers of error classes look like; sentences (xAI) and URIs (RFC 9457) do not
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
#: parts of an identifier that differ from error to error: long numbers, and letters mixed with digits as in request ids
_LONG_NUMBER: Final = re.compile(r"[0-9]{4}")
_MIXED: Final = re.compile(r"[0-9][A-Za-z]")
_SHORTEST_MIXED: Final = 6
#: what a rate limit counts: OpenAI's ``type`` of a 429 says ``tokens`` or ``requests``, which is no class of errors
_LIMITED: Final = re.compile(
    r"(?:input|output|total)?[_-]?(?:tokens?|requests?|images?|audio|characters|messages)"
    r"(?:[_-](?:usage[_-]based|per[_-]\w+))?",
    re.IGNORECASE,
)
#: placeholders that gateways write for a type or code that they do not have
_PLACEHOLDERS: Final = frozenset({"error", "errors", "none", "null", "undefined", "unknown"})
#: OpenAI says this of a missing key (401) and of an unknown URL (404) as of a bad parameter
_GENERIC: Final = "invalid_request_error"
#: the statuses for which it says enough
_INVALID_REQUEST: Final = frozenset({None, 400, 413, 415, 422})


def error_type(
    error: ReplyError | None, *, http_status: int | None = None, exception: type[BaseException] | None = None
) -> str:
    """The value of ``error.type``.

    Args:
        error: what the provider said, if it said anything.
        http_status: the status of the response; one below 400 says nothing of the error (a stream that failed later).
        exception: the class of the exception that the caller got.
    """
    status = http_status if http_status is not None and http_status >= 400 else error.status if error else None
    for name in (error.code, error.type) if error is not None else ():
        if name is not None and _is_class(name, status):
            return name
    if status is not None:
        return str(status)
    return OTHER if exception is None else class_name(exception)


def class_name(kind: type[BaseException]) -> str:
    """The name of an exception's class as OpenTelemetry writes it: with its module, unless it is built in."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _is_class(name: str, status: int | None) -> bool:
    """Whether a provider's code or type names a class of errors."""
    if not _IDENTIFIER.fullmatch(name) or name.lower() in _PLACEHOLDERS or _LIMITED.fullmatch(name):
        return False
    if name == _GENERIC and status not in _INVALID_REQUEST:
        return False
    return not any(map(_is_id, re.split(r"[_.-]", name)))


def _is_id(part: str) -> bool:
    return bool(_LONG_NUMBER.search(part) or (len(part) >= _SHORTEST_MIXED and _MIXED.search(part)))
