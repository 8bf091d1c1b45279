"""From a finished :class:`Call` to its record: status, error, timing, payload.

``facts_for_span`` runs on whichever thread ends the span and reads only the events that have usage, ids or an end.
``build_record`` runs on a worker and reads everything. Both use the same rules for status and error.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from .. import _json
from .._guard import guarded
from .._pace import yield_gil
from ..call_context import EMPTY
from ..content import ContentPolicy
from ..messages import is_compacted
from ..semconv import NOT_BILLED, SpanFacts
from ..trace import SCHEMA_VERSION, ProviderTrace, RecordStatus
from ..usage import Usage
from ..wire import PARSERS, Reply, ReplyError, error_type, read_error, reassemble, summarize
from .background_responses import background_facts
from .body import Body
from .call import Call, ErrorInfo
from .causes import causes_json, message_with_causes
from .credentials import call_credentials, suspected_headers
from .sent_request import KeptRequest, SentRequest

_REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "x-ms-request-id", "apim-request-id")
_READ_HEADERS: Final = ("content-type", *_REQUEST_ID_HEADERS)
#: kinds of requests that hold on to nothing else
_RELEASED: Final = (bytes, SentRequest)
#: characters of a message that are masked; what a record may hold is cut afterwards
_MESSAGE_LIMIT: Final = 16_384


def facts_for_span(call: Call) -> dict[str, Any]:
    """All values of the record but the payload, as far as the summary of the response says them."""
    reply = _summarize(call) if call.reply is None else call.reply
    facts = record_facts(call, reply)
    if reply.parsed_as_json != "none" or reply.is_stream:
        call.reply, call.end_facts = reply, facts
    return facts


def release_request(call: Call) -> None:
    """Let go of what the HTTP client has of a call that is over, as far as it is not needed for its record."""
    content, request = call.request_bytes, call.request
    if content is not None and not isinstance(request, _RELEASED):
        headers = getattr(request, "headers", None)
        call.request = KeptRequest(request, content, [] if headers is None else suspected_headers(headers.raw))
    if call.headers is not None and call.headers.__class__ is not dict:
        call.headers = _read_headers(call.headers)


def _read_headers(headers: Any) -> dict[str, str]:
    """The headers of a response that are read for its record. httpx looks at all of them for each that is asked for."""
    raw: list[tuple[bytes, bytes]] | None = getattr(headers, "raw", None)
    names = None if raw is None else tuple([name for name, _ in raw])
    indices = None if names is None else _read_indices(names)
    if raw is None or indices is None:
        return {name: value for name in _READ_HEADERS if (value := headers.get(name))}
    return {name: raw[index][1].decode("utf-8", "replace") for name, index in indices}


@lru_cache(maxsize=64)  # the responses of a provider have the same
def _read_indices(names: tuple[bytes, ...]) -> tuple[tuple[str, int], ...] | None:
    """Which of the headers with these names are read; None if one of them comes twice."""
    lowered = [name.lower().decode("latin-1") for name in names]
    indices = [(name, index) for index, name in enumerate(lowered) if name in _READ_HEADERS]
    return tuple(indices) if len(dict(indices)) == len(indices) else None


def record_without_payload(call: Call) -> ProviderTrace:
    """The record without payload and chunk count."""
    return ProviderTrace(**_facts(call, _summarize(call) if call.reply is None else call.reply))


def _summarize(call: Call) -> Reply:
    body, api = _decoded(call), call.route.api
    media_type = call.media_type if PARSERS[api].plain else ""
    reply = (guarded("record.summarize", summarize, api, body, media_type) if body else None) or Reply()
    if call.parse_error is not None:
        _take_parse_error(call, reply, body)
    call.span_facts = _span_facts(call, reply)
    return reply


def _span_facts(call: Call, reply: Reply) -> SpanFacts:
    route, request = call.route, call.request_bytes or b""
    return SpanFacts(
        system_fingerprint=reply.system_fingerprint,
        finish_reasons=reply.normalized_reasons,
        response_status=reply.response_status if route.operation == "fetch_response" else None,
        is_compacted=route.operation == "chat"
        and (
            (reply.compacted and route.api != "responses_compact")
            or (b'"compaction"' in request and _sends_compacted(request))
        ),
    )


def _sends_compacted(request: bytes) -> bool:
    """Whether a request, one of whose strings may be the word, contains a compacted conversation."""
    return bool(guarded("record.compacted", lambda: is_compacted(json.loads(request))))


def build_record(call: Call) -> ProviderTrace:
    """The whole record, with the response reassembled. What cannot be read is left out."""
    body = _decoded(call)
    if _has_grown(call):
        call.reply = call.end_facts = None
    reply, response = _reassemble(call, body) if call.reply is None or call.reply.is_stream else (call.reply, None)
    yield_gil()
    payload = guarded("record.payload", _payload, call, body, reply, response)
    yield_gil()
    request_json, response_json, content = payload or (None, None, "metadata")
    if content == "full" and call.body is not None and call.body.is_cut:
        content = "truncated"
    payload_facts = {"request_json": request_json, "response_json": response_json, "content": content}
    return ProviderTrace.of_fields(_facts(call, reply) | payload_facts)


def _has_grown(call: Call) -> bool:
    """Whether more of the response came after the end that the caller saw: an SDK may read on."""
    facts, body = call.end_facts, call.body
    return facts is not None and body is not None and body.received_size != facts["response_bytes"]


def _reassemble(call: Call, body: bytes) -> tuple[Reply, Any]:
    api, media_type, summary = call.route.api, call.media_type, call.reply
    reassembled = guarded("record.reassemble", reassemble, api, body, media_type, summary)
    if summary is not None:
        return reassembled or (summary, None)
    reply, response = reassembled or (guarded("record.summarize", summarize, api, body, media_type) or Reply(), None)
    if call.parse_error is not None:
        _take_parse_error(call, reply, body)
    call.span_facts = _span_facts(call, reply)
    return reply, response


def _take_parse_error(call: Call, reply: Reply, body: bytes) -> None:
    """The exception that the caller gets where the SDK parses the response after the call."""
    is_readable = not body or reply.parsed_as_json != "none" or (call.body is not None and call.body.is_cut)
    if call.parse_error is not None and call.error is None and not is_readable:
        error = guarded("record.parse_error", call.parse_error, body)
        call.error = None if error is None else ErrorInfo.of(error)


def _facts(call: Call, reply: Reply) -> dict[str, Any]:
    """As :func:`record_facts`; what was read and masked for the span is taken from there."""
    if call.end_facts is None:
        return record_facts(call, reply)
    return call.end_facts | {"chunk_count": reply.chunk_count}


def record_facts(call: Call, reply: Reply) -> dict[str, Any]:
    """All values of the record except the payload, for a call that got ``reply``."""
    facts = _call_facts(call, reply)
    facts.update(_end_facts(call, reply))
    _clean(call, facts)
    for key, value in _own_ids(call).items():
        facts.setdefault(key, value)
    return facts


def _own_ids(call: Call) -> dict[str, Any]:
    """The values that we make ourselves, in which there is nothing to clean; a background response has another id."""
    span_context = call.span_context or call.parent
    return {
        "id": call.id,
        "schema_version": SCHEMA_VERSION,
        "trace_id": f"{span_context.trace_id:032x}" if span_context else None,
        "span_id": f"{call.span_context.span_id:016x}" if call.span_context else None,
        "parent_span_id": f"{call.parent.span_id:016x}" if call.parent else None,
    }


def _call_facts(call: Call, reply: Reply) -> dict[str, Any]:
    """The values that spans have from their start, or never."""
    context = call.context or EMPTY
    return {
        "provider": call.endpoint.provider,
        "request_model": call.model,
        "stream": call.stream,
        "server_address": call.endpoint.address,
        "server_port": call.endpoint.port,
        "started_at": call.started_at,
        "duration_ns": call.ended_ns - call.started_ns,
        "chunk_count": reply.chunk_count,
        "llm_config": context.llm_config,
        "compaction_settings": context.compaction_settings,
        "billing_context": context.billing_context,
    }


def _clean(call: Call, facts: dict[str, Any]) -> None:
    """Make ``facts`` what may be stored; also the fact that spans have and records have not."""
    has_failed = facts["error_message"] is not None or facts["error_json"] is not None
    credentials = call_credentials(call, has_failed=has_failed)
    fingerprint = call.span_facts.system_fingerprint
    if fingerprint is not None and credentials.is_in(fingerprint):
        call.span_facts = call.span_facts._replace(system_fingerprint=credentials(fingerprint))
    call.observer.policy.clean_metadata(facts, credentials)


def _end_facts(call: Call, reply: Reply) -> dict[str, Any]:
    """The values of the record that spans are given at the end: from the context, the response and the error."""
    context, request, body, raised = call.context or EMPTY, call.request_bytes, call.body, call.error
    error = reply.error or (None if raised is None else _provider_error(raised))
    status = _status(call, reply)
    has_failed = status in ("error", "cancelled")
    facts: dict[str, Any] = {
        "step_id": context.step_id,
        "run_id": context.run_id,
        "agent_id": context.agent_id,
        "conversation_id": context.conversation_id or call.conversation_id,
        "user_id": context.user_id,
        "org_id": context.org_id,
        "agent_tags": context.agent_tags,
        "call_type": context.call_type,
        "source": call.source,
        "attributes": context.attributes,
        "operation": call.route.operation,
        "api": call.route.api,
        "response_model": reply.response_model,
        "response_id": call.response_id if reply.response_id is None else reply.response_id,
        "request_id": _request_id(call),
        "service_tier": reply.service_tier,
        "sdk": call.endpoint.sdk,
        "status": status,
        "finish_reasons": reply.finish_reasons,
        "error_type": _error_type(call, error) if has_failed else None,
        "error_message": _error_message(error, raised) if has_failed else None,
        "error_json": None if error is None and raised is None else _error_json(error, raised),
        "http_status": call.http_status,
        "attempts": call.attempts or None,
        "time_to_first_chunk_ns": _time_to_first_chunk(call, reply) if call.stream else None,
        # a fetched response keeps its numbers in ``raw`` only, as another call's record has them
        "usage": Usage(raw=reply.usage.raw) if call.route.operation in NOT_BILLED else reply.usage,
        "request_bytes": _announced_size(call) if request is None else len(request),
        "response_bytes": None if body is None else body.size + body.dropped,
    }
    if reply.background is not None or reply.is_pending:
        facts |= background_facts(call, reply, context.call_type)
    return facts


def _status(call: Call, reply: Reply) -> RecordStatus:
    """The record's status, by what docs/record.md says of it.

    The caller's exception decides first, then the provider's error, then whether the caller stopped reading, then
    whether the provider said that it was done. One that is no ``Exception`` (Ctrl-C, ``CancelledError``) cancels.
    """
    if call.error is not None:
        return "error" if issubclass(call.error.kind, Exception) else "cancelled"
    if reply.error is not None:
        return "error"
    if call.end in ("closed", "abandoned") and not reply.terminal:
        return "closed_early"
    is_over = reply.terminal or reply.plain or call.batch_results is not None
    # The SDK itself reads a stream of speech before it returns; that stream may have been cut, too.
    if not is_over and (call.end == "exhausted" or (call.end == "returned" and reply.is_stream)):
        return "incomplete"
    return "ok"


def _provider_error(error: ErrorInfo) -> ReplyError | None:
    """The provider's error, as the SDK's exception carried it."""
    return read_error(error.body) if error.body else None


def _error_type(call: Call, error: ReplyError | None) -> str:
    raised = call.error
    if raised is None:
        return error_type(error, http_status=call.http_status)
    # the exception's status: the call's may be that of an earlier attempt, if the last one could not connect
    return error_type(error, http_status=raised.status, exception=raised.kind)


def _error_message(provider_error: ReplyError | None, raised: ErrorInfo | None) -> str | None:
    message = provider_error.message if provider_error is not None else None
    if not message and raised is not None:
        message = message_with_causes(raised.message, raised.causes)
    return message[:_MESSAGE_LIMIT] if message else None


def _error_json(provider_error: ReplyError | None, raised: ErrorInfo | None) -> Any:
    """The provider's error, or the exceptions behind the SDK's."""
    if provider_error is not None:
        return provider_error.json
    return causes_json(raised.kind, raised.message, raised.causes) if raised is not None and raised.causes else None


def _request_id(call: Call) -> str | None:
    headers = call.headers
    if headers is not None:
        for name in _REQUEST_ID_HEADERS:
            value = headers.get(name)
            if value:
                return value
    return None


def _time_to_first_chunk(call: Call, reply: Reply) -> int | None:
    if call.body is None or reply.first_output_at is None:
        return None
    output_time = call.body.time_at(reply.first_output_at)
    return None if output_time is None else max(0, output_time - call.started_ns)


def _decoded(call: Call) -> bytes:
    body = call.body
    if body is None:
        return b""
    return (guarded("record.decode", body.decoded) or b"") if body.encoding else b"".join(body.pieces)


def _announced_size(call: Call) -> int | None:
    """The size of a request whose bytes are not kept, as its header says."""
    length = getattr(call.request, "headers", {}).get("content-length", "") if call.upload is not None else ""
    return int(length) if length.isdecimal() else None


def payload_texts(call: Call, policy: ContentPolicy) -> tuple[str | None, str | None, Any]:
    """The texts of request and response under ``policy``, and what ``content`` says of them."""
    body = _decoded(call)
    reply, response = reassemble(call.route.api, body, call.media_type)
    return _payload(call, body, reply, response, policy)


def _payload(
    call: Call, body: bytes, reply: Reply, response: Any, policy: ContentPolicy | None = None
) -> tuple[str | None, str | None, Any]:
    if call.batch_results is not None and reply.error is None:
        text: str | None = _json.dumps(call.batch_results.summary())
    elif response is not None and (reply.chunk_count is not None or reply.plain):
        text = _json.dumps(_describe_partial_body(response, call.body))
    elif reply.parsed_as_json == "whole":
        text = _json.canonical_object(body)
    else:
        text = _json.canonical(body) if body else None
    has_failed = reply.error is not None or call.error is not None
    request = call.request_bytes if call.upload is None else call.upload.as_json().encode()
    credentials = call_credentials(call, has_failed=has_failed)
    return (policy or call.observer.policy).apply_to_payloads(request, text, credentials, failed=has_failed)


def _describe_partial_body(response: Any, body: Body | None) -> Any:
    """``response``, which may describe binary content: without the hash if some of the bytes were dropped."""
    if body is None or not body.is_cut or not isinstance(response, dict) or "sha256" not in response:
        return response
    return {key: value for key, value in response.items() if key != "sha256"} | {"bytes": body.received_size}
