"""The frames beside records: written as JSON, and read with every member checked.

The other end may be broken or hostile: numbers of any size, NaN, a nested list where a text belongs. Whatever it sends
becomes a value of the right kind or a :class:`ProtocolError` that names it; a message quotes only what is short.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, Final

from ... import _json
from ...errors import BackendError

__all__ = [
    "VERSION",
    "ProtocolError",
    "encode_frame",
    "integer_member",
    "parse_object",
    "quoted",
    "reported_error",
    "text_member",
]

VERSION: Final = 4

_LENGTH: Final = struct.Struct(">I")
#: characters of a text of the other end
_LONGEST_MESSAGE: Final = 4096
#: seconds; who asks for a longer pause is broken
_LONGEST_DELAY: Final = 3600
#: characters of a quoted value
_LONGEST_QUOTE: Final = 40


class ProtocolError(BackendError):
    """The other end said, or did, something that ends the connection.

    ``code`` is one of those in docs/socket-protocol.md; ``seq`` the record that is meant, if one is;
    ``retry_after`` the seconds after which another try makes sense, if the other end said so; ``is_reported``
    whether the other end has sent it; else it was found here.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        seq: int | None = None,
        retry_after: float | None = None,
        is_reported: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.seq = seq
        self.retry_after = retry_after
        self.is_reported = is_reported

    def frame(self) -> bytes:
        """The frame that is sent before the connection is closed."""
        values = {"type": "error", "code": self.code, "message": str(self)[:_LONGEST_MESSAGE]}
        members = {"seq": self.seq, "retry_after": self.retry_after}
        versions = {"versions": [VERSION]} if self.code == "unsupported_version" else {}
        return encode_frame(values | {key: value for key, value in members.items() if value is not None} | versions)


def encode_frame(values: Mapping[str, Any]) -> bytes:
    """A whole frame that holds ``values`` as JSON."""
    body = _json.dumps(values).encode()
    return _LENGTH.pack(len(body)) + body


def parse_object(frame: bytes, where: str) -> dict[str, Any]:
    """The JSON object that is the body of a frame.

    Raises:
        ProtocolError: it is none, or holds what cannot be read: too deep, a number of thousands of digits.
    """
    try:
        values = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("malformed", f"{where}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ProtocolError("malformed", f"{where}: not a JSON object")
    return values


def integer_member(values: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    """The whole number of 64 bits under ``key``; ``default``, if there is one, where the key is missing.

    Raises:
        ProtocolError: there is none, or something else.
    """
    value = values.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError("malformed", f"{where}: {key} is {quoted(value)}, not a whole number")
    if not -(2**63) <= value < 2**63:
        raise ProtocolError("malformed", f"{where}: {key} is {quoted(value)}, not a whole number of 64 bits")
    return value


def text_member(values: Mapping[str, Any], key: str, default: str, limit: int = _LONGEST_MESSAGE) -> str:
    """The text under ``key``, cut to ``limit`` characters; ``default`` where there is none, or no text."""
    value = values.get(key)
    return value[:limit] if isinstance(value, str) and value else default


def quoted(value: object) -> str:
    """A value of the other end for a message, cut. Of a list or an object only that it is one: it may be nested."""
    if isinstance(value, dict | list):
        return "a JSON object" if isinstance(value, dict) else "a JSON list"
    if isinstance(value, int) and not -(10**_LONGEST_QUOTE) < value < 10**_LONGEST_QUOTE:
        return f"a number of {value.bit_length()} bits"
    return f"{value!r:.{_LONGEST_QUOTE}}"


def reported_error(values: Mapping[str, Any]) -> ProtocolError:
    """The error that the other end reports. A ``seq`` or ``retry_after`` that makes no sense is named, and ignored."""
    code = values.get("code")
    if not isinstance(code, str):
        return ProtocolError("malformed", f"the code of an error is {quoted(code)}, not a text")
    message = text_member(values, "message", "no reason is given")
    seq, delay = values.get("seq"), values.get("retry_after")
    if seq is not None and not _is_seq(seq):
        message += f" (its seq is {quoted(seq)}, not the number of a record)"
        seq = None
    if delay is not None and not _is_delay(delay):
        message += f" (its retry_after is {quoted(delay)}, not a number of seconds between 0 and {_LONGEST_DELAY})"
        delay = None
    return ProtocolError(
        code[:100], message, seq=seq, retry_after=None if delay is None else float(delay), is_reported=True
    )


def _is_seq(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def _is_delay(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value <= _LONGEST_DELAY and math.isfinite(value)
