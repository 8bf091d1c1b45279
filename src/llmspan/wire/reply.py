"""The facts of a response, and the base class of the parsers that read them.

A parser is fed either the events of a stream (``event``) or one JSON body (``body``) and can then be asked for a
:class:`Reply` and for the whole response. Parsers are pure: no I/O, no OpenTelemetry, no SDK. They accept whatever a
gateway sends; a value of an unexpected type is passed over, never raised about by design (and guarded all the same).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, NamedTuple

from .._clock import SECOND
from ..usage import Usage

JsonObject = dict[str, Any]

#: what servers send where they have no value, beside null
NO_VALUES: Final = ("", "null")


@dataclass(slots=True)
class ReplyError:
    """An error as the provider described it; any of the values may be missing. Its class: ``error_types.py``."""

    type: str | None = None
    code: str | None = None
    message: str | None = None
    json: Any = None
    #: the HTTP status that the error itself names: WebSocket events and gateways' events in a 200 stream do
    status: int | None = None


class Background(NamedTuple):
    """A response that can be fetched, and is over: perhaps one that no call has waited for."""

    #: nanoseconds since the epoch, as the body says
    created_at: int | None
    completed_at: int | None
    #: whether the body says that the response was made in the background; else only the calls before this one tell
    is_certain: bool = True
    #: the operation of the call that creates such a response
    operation: str = "chat"


@dataclass(slots=True)
class Reply:
    """The facts of a response that spans and records carry."""

    response_id: str | None = None
    response_model: str | None = None
    #: as the provider wrote them, one per choice
    finish_reasons: tuple[str | None, ...] = ()
    #: the same in the conventions' spelling, where a table of values does not suffice (a Responses status)
    normalized_reasons: tuple[str, ...] | None = None
    usage: Usage = field(default_factory=Usage)
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error: ReplyError | None = None
    #: set for a response that is over and may be a background one: calls beside this one may report the same usage
    background: Background | None = None
    #: whether the provider is still at work on a response that can be fetched, whatever usage it has reported so far
    is_pending: bool = False
    #: how far a response that can be fetched has come, in the provider's words (``completed``, ``queued``, ...)
    response_status: str | None = None
    #: whether the provider compacted the conversation before it answered
    compacted: bool = False
    #: the provider said that it was done (or that it failed); False for a stream that was cut
    terminal: bool = False
    #: plain text or bytes, which cannot say that they are done: their end is all there is to go by
    plain: bool = False
    #: how much of the body was parsed as a JSON object: ``part`` is all but what :meth:`ResponseParser.strip_bulk` cuts
    parsed_as_json: Literal["none", "part", "whole"] = field(default="none", compare=False)
    #: the body is a stream of events, at least one of which arrived
    is_stream: bool = field(default=False, compare=False)
    #: events that arrived, less those that the SDK passes over; None for a body that is not a stream
    chunk_count: int | None = None
    #: offset just behind the first event that carries output; None if there was none
    first_output_at: int | None = None


class ResponseParser:
    """Base of the parsers: one per API. Subclasses fill in the methods."""

    #: whether an event that differs from the one before in its text only leaves the :class:`Reply` as it is
    skips_repeats: ClassVar[bool] = True
    #: what the API may answer with beside JSON and events
    plain: ClassVar[Literal["", "text", "bytes"]] = ""
    #: whether the last event of a run of such repetitions is read as well, as counts in it may differ (``repeats.py``)
    reads_last_of_run: ClassVar[bool] = False
    #: whether a stream may be one JSON array, whose items are its events
    array_is_stream: ClassVar[bool] = False
    #: stream events that the SDK keeps to itself
    silent_events: ClassVar[frozenset[str]] = frozenset()

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream."""
        raise NotImplementedError

    def body(self, data: JsonObject) -> None:
        """Take the one body of a call that does not stream."""
        raise NotImplementedError

    def strip_bulk(self, body: bytes) -> bytes:
        """``body`` (the JSON of a call that does not stream) without what makes it large and is no fact."""
        return body

    def carries_output(self, data: JsonObject) -> bool:
        """Whether a stream event carries something that the model produced."""
        raise NotImplementedError

    def appends_text(self, data: JsonObject) -> bool:  # noqa: ARG002
        """Whether events such as ``data`` do no more than append their one text, so that many can be taken as one."""
        return False

    def reply(self) -> Reply:
        """What is known by now."""
        raise NotImplementedError

    def response(self) -> Any:
        """The response by now, in the shape of the non-streaming call; None if nothing was received."""
        raise NotImplementedError


def seconds(value: object) -> int | None:
    """A time in seconds since the epoch, in nanoseconds; None if ``value`` is no such time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 33:
        return None
    return int(value) * SECOND


def iso_time(value: object) -> int | None:
    """A time such as ``2026-11-01T00:00:00Z``, in nanoseconds since the epoch; None if ``value`` is no such time."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if moment is None or moment.tzinfo is None else seconds(moment.timestamp())


def text(value: object) -> str | None:
    """``value`` if it is a non-empty string."""
    return value if isinstance(value, str) and value else None


def meaningful_text(value: object) -> str | None:
    """``value`` if it is a string that says something: neither empty nor the text ``null``.

    Servers that turn a missing value into text send ``"null"`` where OpenAI sends null or nothing.
    """
    return value if isinstance(value, str) and value not in NO_VALUES else None


def has_value(value: object) -> bool:
    """Whether a value says something: it is neither null nor empty text nor the text ``null``."""
    return value is not None and value not in NO_VALUES


def has_error(data: JsonObject) -> bool:
    """Whether a body or event has an ``error``: gateways send an empty one, or ``"null"``, where there is none."""
    return bool(data.get("error")) and data["error"] != "null"


def string(value: object) -> str | None:
    """``value`` if it is a string, be it empty."""
    return value if isinstance(value, str) else None


def obj(value: object) -> JsonObject:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[JsonObject]:
    """The JSON objects in ``value`` if it is an array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def read_error(value: object) -> ReplyError | None:
    """The error in a provider's error body: ``{"error": {...}}``, ``{"error": "..."}`` or the bare object.

    Sources: openai ``ErrorObject``, anthropic ``ErrorResponse`` and ``ErrorDetails``; Mistral and Azure put the fields
    at the top, Google's endpoint names the code ``status``, text-generation-inference the type ``error_type``.
    """
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, Mapping) or not value:
        return ReplyError(message=value, json=value) if isinstance(value, str) and value else None
    body: JsonObject = dict(value)
    error = body.get("error")
    fields = obj(error) or body
    message = error if isinstance(error, str) else fields.get("message") or fields.get("detail")
    return ReplyError(
        type=_word(fields.get("type")) or _word(fields.get("error_type")),
        code=_code(fields),
        message=message if isinstance(message, str) else None,
        json=body,
        status=http_status(fields.get("code")) or http_status(fields.get("status")) or http_status(body.get("status")),
    )


def _code(fields: JsonObject) -> str | None:
    """The provider's code; Anthropic has it in ``details``, Google beside the HTTP status that it calls ``code``."""
    detailed = text(obj(fields.get("details")).get("error_code")) or text(fields.get("status"))
    code = _word(fields.get("code"))
    return detailed if detailed and (code is None or code.isdecimal()) else code


def http_status(value: object) -> int | None:
    """``value`` as the status of a failed HTTP request, if it is one."""
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) == 3 else value
    return number if isinstance(number, int) and not isinstance(number, bool) and 400 <= number < 600 else None


def _word(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text(value)
