"""Every API, sync and async, times every way to end: one span, one record, and a caller who notices nothing."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode

from outcomes import Colour, Outcome, cells, perform
from outcomes.servers import ERROR_BODY
from signals import RESOURCE
from streams import ALL, WORDS, Api
from watching import Watch, watching

pytestmark = pytest.mark.every_row
MATRIX = cells(ALL)


@pytest.mark.parametrize(("outcome", "api", "colour"), MATRIX, ids=lambda value: getattr(value, "name", value))
@pytest.mark.peer_fault("A1", "R1", "U6", "E1", "E2", "E3", "E4", "E7", "E8", "E9", "C8", "C9")
def test_cell(outcome: Outcome, api: Api, colour: Colour, caplog: pytest.LogCaptureFixture) -> None:
    """The caller sees what he sees without us; one ended span and one record say how the call ended."""
    bare, _ = perform(outcome, api, colour, TracerProvider(resource=RESOURCE, shutdown_on_exit=False))
    caplog.clear()
    with watching() as watch:
        seen, stage = perform(outcome, api, colour, watch.tracer_provider)
    assert seen == bare
    assert seen.is_collectable
    assert stage.wrong == []
    assert not any("traceparent" in request.headers for request in stage.requests)
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING] == []
    assert watch.observer.open_calls == {}
    record = check_record(outcome, api, watch, seen.error)
    check_content(outcome, api, record)
    check_usage(outcome, api, record)
    check_chunks(outcome, record, len(seen.events))


def check_record(outcome: Outcome, api: Api, watch: Watch, error: tuple[Any, ...] | None) -> Any:
    """One span and one record that agree; the record."""
    (record,) = watch.records
    (span,) = (span for span in watch.spans if span.name != "caller")
    attributes = span.attributes or {}
    assert span.end_time is not None
    assert span.status.status_code is (StatusCode.ERROR if outcome.status == "error" else StatusCode.UNSET)
    assert (record.status, attributes["llmspan.status"]) == (outcome.status, outcome.status)
    is_cancelled = outcome.status == "cancelled"
    assert record.error_type == error_type(outcome, api, error)
    assert attributes.get("error.type") == (None if is_cancelled else record.error_type)
    assert attributes.get("llmspan.cancelled_by") == (record.error_type if is_cancelled else None)
    assert (record.attempts, attributes.get("http.request.resend_count", 0)) == (outcome.attempts, outcome.attempts - 1)
    assert ("error" in attributes.get("gen_ai.response.finish_reasons", ())) == says_error(outcome)
    assert record.span_id == f"{span.context.span_id:016x}"
    assert span.parent is not None
    assert span.parent.span_id in {other.context.span_id for other in watch.spans if other.name == "caller"}
    return record


def says_error(outcome: Outcome) -> bool:
    """Whether a finish reason is told in place of one that was expected and did not come."""
    return outcome.status != "ok" and outcome.keeps == "words"


def error_type(outcome: Outcome, api: Api, error: tuple[Any, ...] | None) -> str | None:
    if outcome.error == "provider":
        return {"openai": "overloaded", "anthropic": "overloaded_error"}[api.provider]
    if outcome.error == "raised":
        assert error is not None
        kind = error[0]
        return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return outcome.error


def check_content(outcome: Outcome, api: Api, record: Any) -> None:
    """The request in any case; of the response, what had come."""
    assert json.loads(record.request_json)["model"] == api.arguments["model"]
    response = record.response_json and json.dumps(json.loads(record.response_json), ensure_ascii=False)
    if outcome.keeps == "all":
        assert "".join(WORDS) in response
    elif outcome.keeps == "words":
        assert WORDS[0] in response
    elif outcome.keeps == "error":
        assert json.loads(record.response_json) == ERROR_BODY
        assert outcome.name.startswith(f"HTTP {record.http_status}")
        assert (record.request_id, record.error_message) == ("req_1", "no")
    else:
        assert not response


def check_usage(outcome: Outcome, api: Api, record: Any) -> None:
    """The provider's last word if the stream was complete; else what was said by then, and marked as partial."""
    usage = record.usage
    if outcome.keeps == "all":
        assert (usage.input_tokens, usage.output_tokens) == (api.input_tokens, api.output_tokens)
        assert usage.source == "provider"
        return
    assert usage.output_tokens is None  # the placeholder of message_start is no figure
    started = outcome.keeps == "words" and api.early_input_tokens is not None
    assert usage.input_tokens == (api.early_input_tokens if started else None)
    assert usage.source == ("partial" if started else "none")


def check_chunks(outcome: Outcome, record: Any, seen: int) -> None:
    """As many chunks as the caller got (and the error that he got), and the time of the first one with output."""
    arrived = seen + (outcome.error == "provider")
    assert record.chunk_count == (arrived if outcome.keeps in ("all", "words") else None)
    assert (record.time_to_first_chunk_ns is not None) == (outcome.keeps in ("all", "words"))
