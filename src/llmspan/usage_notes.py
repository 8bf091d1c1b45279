"""Why a record has no usage, in words, and what would help. Pure, but for reading records from a backend."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final

from .wire.reply import JsonObject, obj

if TYPE_CHECKING:
    from .backends.base import Backend
    from .trace import ProviderTrace

__all__ = ["SOURCE_NOTES", "find_unasked_streams", "usage_note"]

#: what is said about numbers that are not a final report, by ``usage_source``
SOURCE_NOTES: Final[dict[str, str]] = {
    "partial": "a lower bound: the stream broke off",
    "none": "not reported by the provider",
}

#: the APIs whose streams report usage only if ``stream_options.include_usage`` asks for it
_ASKING_APIS: Final = ("chat_completions", "completions")
_PARAMETER: Final = 'stream_options={"include_usage": True}'
#: so many of the newest records are looked at, and of so many the request is read
_NEWEST: Final = 200
_READ: Final = 20


def usage_note(record: ProviderTrace) -> str | None:
    """What has to be said about where the numbers of ``record`` come from; None if they are a final report."""
    note = SOURCE_NOTES.get(record.usage.source)
    if record.usage.source != "none" or not _may_not_have_asked(record):
        return note
    options = _stream_options(record)
    if options is None:
        return f"{note}; such streams report usage only if asked to, by {_PARAMETER}"
    if options.get("include_usage") is True:
        return f"{note}, although the stream asked for usage"
    return f"the stream did not ask for usage; {_remedy(record, options)}"


def find_unasked_streams(backend: Backend) -> str | None:
    """How many of the newest calls did not ask for their usage, at which hosts, and the remedy; None if none did."""
    newest = backend.list(limit=_NEWEST).traces
    suspects = [record for record in newest if record.usage.source == "none" and _may_not_have_asked(record)]
    hosts: Counter[str] = Counter()
    for suspect in suspects[:_READ]:
        record = backend.get(suspect.id)
        options = None if record is None else _stream_options(record)
        if options is not None and options.get("include_usage") is not True:
            hosts[_host(suspect)] += 1
    if not hosts:
        return None
    places = ", ".join(f"{host or 'no known host'} ({number})" for host, number in hosts.most_common())
    return (
        f"of the newest calls, {hosts.total()} are streams that did not ask for usage, so theirs is not known:"
        f" {places}; set {_setting(sorted(filter(None, hosts)))}, or pass {_PARAMETER}"
    )


def _host(record: ProviderTrace) -> str:
    """The host of a record as ``LLMSPAN_INCLUDE_USAGE`` takes it; empty if it is not known."""
    host = record.server_address or ""
    if ":" in host:
        return f"[{host}]"
    is_plain = not host or "." in host or host == "localhost" or record.server_port is None
    return host if is_plain else f"{host}:{record.server_port}"


def _may_not_have_asked(record: ProviderTrace) -> bool:
    """Whether not asking can be the cause: usage comes last, so a stream that ended before cannot have it anyway."""
    return record.stream and record.api in _ASKING_APIS and record.status == "ok"


def _stream_options(record: ProviderTrace) -> JsonObject | None:
    """The request's ``stream_options``, empty if it has none; None if the request was not stored."""
    try:
        request = json.loads(record.request_json or "")
    except (ValueError, RecursionError):
        return None
    return obj(request.get("stream_options")) if isinstance(request, dict) else None


def _remedy(record: ProviderTrace, options: JsonObject) -> str:
    if options or record.api != "chat_completions":  # what the caller set is not changed by the setting
        return f"pass {_PARAMETER}"
    return f"set {_setting([_host(record)] if _host(record) else [])}, or pass {_PARAMETER}"


def _setting(hosts: list[str]) -> str:
    return f"LLMSPAN_INCLUDE_USAGE={','.join(['auto', *hosts])}" if hosts else "LLMSPAN_INCLUDE_USAGE=on"
