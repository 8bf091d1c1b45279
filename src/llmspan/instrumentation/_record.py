"""From a finished :class:`Call` to its record: status, error, timing, payload.

``span_facts`` are for the span, on the caller's thread: they come from the few events that matter. ``full_record``
is for the stores, on a worker: it reads everything. Both judge a call in the same way.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from .. import _json
from .._guard import guarded
from .._pace import breathe
from ..content import Policy
from ..messages import is_compacted
from ..redaction import credential_texts, url_credentials
from ..scope import EMPTY
from ..semconv import NOT_BILLED, SpanFacts
from ..trace import ProviderTrace, Status
from ..usage import Usage
from ..wire import Reply, ReplyError, error_type, may_be_plain, read_error, reassemble, summarize
from ._background import background_facts
from ._body import Body
from ._call import Call, Raised
from ._causes import causes_json, message_with_causes

_REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "x-ms-request-id", "apim-request-id")
#: headers that hold credentials, and those that may; what a provider says of an error may echo any of them
_SECRET_HEADERS: Final = re.compile(
    "authorization|x-api-key|api-key|x-goog-api-key|proxy-authorization|cookie", re.IGNORECASE
)
_DUBIOUS_HEADERS: Final = re.compile(".*(?:auth|cookie|key|passw|secret|session|token).*", re.IGNORECASE)
_SEPARATORS: Final = re.compile(r"[\s;=,]+")
#: shorter ones are placeholders ("not-needed"), and may well be words of the conversation
_SHORTEST_SECRET: Final = 16
_SHORTEST_DUBIOUS: Final = 8
#: a message is cut to what a record holds after it is masked; this bounds what is masked, in characters
_MESSAGE_LIMIT: Final = 16_384


def span_facts(call: Call) -> dict[str, Any]:
    """The record's values that the span of a finished call is told at its end."""
    facts = {"provider": call.target.provider, **_told(call, _summary(call))}
    return call.judge.policy.clean(facts, lambda: secrets_of(call, failed=True))


def brief_record(call: Call) -> ProviderTrace:
    """The record without payload and chunk count."""
    return ProviderTrace(**record_facts(call, _summary(call)))


def _summary(call: Call) -> Reply:
    body, api = _decoded(call), call.route.api
    media_type = call.media_type if may_be_plain(api) else ""
    reply = (guarded("record.summarize", summarize, api, body, media_type) if body else None) or Reply()
    call.span_facts = _span_facts(call, reply)
    return reply


def _span_facts(call: Call, reply: Reply) -> SpanFacts:
    route = call.route
    return SpanFacts(
        system_fingerprint=reply.system_fingerprint,
        finish_reasons=reply.normalized_reasons,
        response_status=reply.response_status if route.operation == "fetch_response" else None,
        is_compacted=route.operation == "chat"
        and ((reply.compacted and route.api != "responses_compact") or _sends_compacted(call.sent or b"")),
    )


def _sends_compacted(sent: bytes) -> bool:
    """Whether a request hands over a compacted conversation. Only one that has the word as a value is parsed."""
    return b'"compaction"' in sent and bool(guarded("record.compacted", lambda: is_compacted(json.loads(sent))))


def full_record(call: Call) -> ProviderTrace:
    """The whole record, its response reassembled. Whatever cannot be read is left out; the rest stays."""
    body, api, media_type = _decoded(call), call.route.api, call.media_type
    read = guarded("record.reassemble", reassemble, api, body, media_type)
    reply, response = read or (guarded("record.summarize", summarize, api, body, media_type) or Reply(), None)
    call.span_facts = _span_facts(call, reply)
    breathe()
    kept = guarded("record.payload", _payload, call, body, reply, response)
    breathe()
    request_json, response_json, content = kept or (None, None, "metadata")
    if content == "full" and call.body is not None and call.body.cut:
        content = "truncated"
    facts = record_facts(call, reply)
    return ProviderTrace(**facts, request_json=request_json, response_json=response_json, content=content)


def record_facts(call: Call, reply: Reply) -> dict[str, Any]:
    """The record's values, less the payload, for a call that was answered so."""
    scope = call.scope or EMPTY
    within = call.span_context or call.parent
    facts: dict[str, Any] = {
        "id": call.id,
        "trace_id": f"{within.trace_id:032x}" if within else None,
        "span_id": f"{call.span_context.span_id:016x}" if call.span_context else None,
        "parent_span_id": f"{call.parent.span_id:016x}" if call.parent else None,
        "provider": call.target.provider,
        "request_model": call.model,
        "stream": call.stream,
        "server_address": call.target.address,
        "server_port": call.target.port,
        "started_at": call.started_at,
        "duration_ns": call.ended - call.started,
        "chunk_count": reply.chunk_count,
        "llm_config": scope.llm_config,
        "compaction_settings": scope.compaction_settings,
        "billing_context": scope.billing_context,
        **_told(call, reply),
    }
    return call.judge.policy.clean(facts, lambda: secrets_of(call, failed=True))


def _told(call: Call, reply: Reply) -> dict[str, Any]:
    """Those of the record's values that are known at the end only, or that come from around the call."""
    scope, body, raised = call.scope or EMPTY, call.body, call.error
    error = reply.error or (None if raised is None else _error_of(raised))
    status = _status(call, reply)
    has_failed = status in ("error", "cancelled")
    facts: dict[str, Any] = {
        "step_id": scope.step_id,
        "run_id": scope.run_id,
        "agent_id": scope.agent_id,
        "conversation_id": scope.conversation_id or call.conversation_id,
        "user_id": scope.user_id,
        "org_id": scope.org_id,
        "agent_tags": scope.agent_tags,
        "call_type": scope.call_type,
        "source": call.source,
        "attributes": scope.attributes,
        "operation": call.route.operation,
        "api": call.route.api,
        "response_model": reply.response_model,
        "response_id": call.response_id if reply.response_id is None else reply.response_id,
        "request_id": _request_id(call),
        "service_tier": reply.service_tier,
        "sdk": call.target.sdk,
        "status": status,
        "finish_reasons": reply.finish_reasons,
        "error_type": _error_type(call, error) if has_failed else None,
        "error_message": _error_message(error, raised) if has_failed else None,
        "error_json": _error_json(error, raised),
        "http_status": call.http_status,
        "attempts": call.attempts or None,
        "time_to_first_chunk_ns": _time_to_first_chunk(call, reply) if call.stream else None,
        "usage": _usage(call, reply),
        "request_bytes": _request_bytes(call),
        "response_bytes": None if body is None else body.received,
    }
    if reply.background is not None:
        facts |= background_facts(call, reply, scope.call_type)
    return facts


def _status(call: Call, reply: Reply) -> Status:
    if call.error is not None:
        return "error" if issubclass(call.error.kind, Exception) else "cancelled"
    if reply.error is not None:
        return "error"
    if call.end in ("closed", "dropped") and not reply.terminal:
        return "closed_early"
    if call.end == "exhausted" and not (reply.terminal or reply.plain or call.results is not None):
        return "incomplete"
    return "ok"


def _usage(call: Call, reply: Reply) -> Usage:
    """The reply's usage; a fetched response keeps its numbers in ``raw`` only, as another call's record has them."""
    if call.route.operation in NOT_BILLED:
        return Usage(raw=reply.usage.raw)
    return reply.usage


def _error_of(error: Raised) -> ReplyError | None:
    """What the provider said, as the SDK's exception carried it."""
    return read_error(error.body) if error.body else None


def _error_type(call: Call, error: ReplyError | None) -> str:
    raised = call.error
    if raised is None:
        return error_type(error, http_status=call.http_status)
    # the status of the exception: that of the call may be of an earlier attempt, before one that could not connect
    return error_type(error, http_status=raised.status, exception=raised.kind)


def _error_message(told: ReplyError | None, raised: Raised | None) -> str | None:
    message = told.message if told is not None else None
    if not message and raised is not None:
        message = message_with_causes(raised.message, raised.causes)
    return message[:_MESSAGE_LIMIT] if message else None


def _error_json(told: ReplyError | None, raised: Raised | None) -> Any:
    if told is not None:
        return told.json
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
    moment = call.body.time_at(reply.first_output_at)
    return None if moment is None else max(0, moment - call.started)


def _decoded(call: Call) -> bytes:
    return (guarded("record.decode", call.body.decoded) if call.body is not None else None) or b""


def _request_bytes(call: Call) -> int | None:
    sent = call.sent
    if sent is not None:
        return len(sent)
    length = getattr(call.request, "headers", {}).get("content-length", "") if call.upload is not None else ""
    return int(length) if length.isdecimal() else None


def payload(call: Call, policy: Policy) -> tuple[str | None, str | None, Any]:
    """The texts of request and response as ``policy`` has them, apart from any record."""
    body = _decoded(call)
    reply, response = reassemble(call.route.api, body, call.media_type)
    return _payload(call, body, reply, response, policy)


def secrets_of(call: Call, *, failed: bool) -> list[str]:
    """What the call was authorised with: texts that must not be anywhere else."""
    names, shortest = (_DUBIOUS_HEADERS, _SHORTEST_DUBIOUS) if failed else (_SECRET_HEADERS, _SHORTEST_SECRET)
    headers = getattr(call.request, "headers", None)
    values = [value for name, value in headers.items() if names.fullmatch(name)] if headers is not None else []
    parts = {part for value in values for part in _header_secrets(value)}
    parts.update(url_credentials(str(getattr(call.request, "url", ""))))
    if failed:
        parts.update(_body_credentials(call.sent))
    return sorted((part for part in parts if len(part) >= shortest), key=len, reverse=True)


def _header_secrets(value: str) -> Iterator[str]:
    """The parts of a header that are secret; of ``Basic`` credentials (RFC 7617) also the user and the password."""
    parts = _SEPARATORS.split(value)
    yield from parts
    if parts[0].lower() == "basic" and len(parts) > 1:
        with suppress(ValueError):
            yield from b64decode(parts[1] + "==").decode("utf-8", "replace").split(":", 1)


def _body_credentials(sent: bytes | None) -> set[str]:
    """The credentials that a request carries in its body, which a gateway may echo in its error."""
    return credential_texts((sent or b"").decode("utf-8", "replace"))


def _payload(
    call: Call, body: bytes, reply: Reply, response: Any, policy: Policy | None = None
) -> tuple[str | None, str | None, Any]:
    if call.results is not None and reply.error is None:
        text: str | None = _json.dumps(call.results.overview())
    elif response is not None and (reply.chunk_count is not None or reply.plain):
        text = _json.dumps(_uncut(response, call.body))
    else:
        text = _json.canonical(body) if body else None
    failed = reply.error is not None or call.error is not None
    request = call.sent if call.upload is None else call.upload.as_json().encode()
    return (policy or call.judge.policy).apply(request, text, secrets_of(call, failed=failed), failed=failed)


def _uncut(response: Any, body: Body | None) -> Any:
    """A description of bytes of which not all are here: how many they were, but no hash of the rest."""
    if body is None or not body.cut or not isinstance(response, dict) or "sha256" not in response:
        return response
    return {key: value for key, value in response.items() if key != "sha256"} | {"bytes": body.received}
