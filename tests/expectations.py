"""What must hold of the record and of the span of a replayed interaction: all that its ``expect`` says."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from interaction import Interaction
from llmspan.redaction import mask_errors
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from watching import Watch


def check(interaction: Interaction, watch: Watch, error: BaseException | None, *, unread: bool = False) -> None:
    """All that the interaction's ``expect`` says, on the record and on the span.

    ``unread``: the SDK did not read the events, and so had nothing to raise about those.
    """
    raised = None if unread and interaction.response["status"] < 400 else interaction.sdk_error
    assert (type(error).__name__ if error else None) == raised, error
    record, span = watch.only()
    expect = interaction.expect
    assert span.end_time is not None
    assert span.attributes is not None
    assert record.span_id == f"{span.context.span_id:016x}"
    assert record.api == interaction.record_api
    assert record.http_status == interaction.response["status"]
    check_usage(interaction, record, span.attributes)
    if interaction.response["status"] < 400:
        assert list(record.finish_reasons) == (expect["finish_reasons"] or [])
        assert record.response_id == expect["response_id"]
        assert record.response_model == expect["response_model"]
        assert record.service_tier == expect["service_tier"]
        check_content(interaction, record)
    check_error(interaction, record, error)
    if expect["is_sse"]:
        assert record.chunk_count == expect["n_sse_events_without_ping"]
        assert record.time_to_first_chunk_ns is None or 0 <= record.time_to_first_chunk_ns <= record.duration_ns
    check_request(interaction, record)
    if interaction.is_own:
        check_own(expect, record, span.attributes)


def check_own(expect: dict[str, Any], record: ProviderTrace, attributes: Any) -> None:
    """What only our own expectations say; what they do not say is not to be there."""
    assert record.usage.details == expect["details"]
    assert list(attributes.get("gen_ai.response.finish_reasons", ())) == expect["finish_on_span"]
    assert attributes.get("openai.response.system_fingerprint") == expect["system_fingerprint"]
    if "error_type" in expect:
        assert record.error_type == attributes.get("error.type") == expect["error_type"]
    if "gen_ai_provider" in expect:
        assert record.provider == attributes.get("gen_ai.provider.name") == expect["gen_ai_provider"]
    for name, value in expect.get("span", {}).items():
        assert plain_value(attributes.get(name)) == value, name
    response = json.loads(record.response_json or "null")
    for path, value in expect.get("at", {}).items():
        assert at(response, path) == value, path


def plain_value(value: Any) -> Any:
    """A value of an attribute as an expectation says it."""
    return "(nothing)" if value is None else list(value) if isinstance(value, tuple) else value


def at(value: Any, path: str) -> Any:
    """What stands at a path of keys and positions; ``(none)`` for null, ``(nothing)`` where there is nothing."""
    for step in filter(None, path.split(".")):
        if isinstance(value, list) and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return "(nothing)"
    return "(none)" if value is None else value


def check_usage(interaction: Interaction, record: ProviderTrace, attributes: Any) -> None:
    expect = interaction.expect
    usage = record.usage
    if record.operation == "fetch_response":  # reported again, not spent again: kept as sent, summed nowhere
        assert usage.input_tokens is None
        assert usage.raw == expect["usage_raw"]
        usage = Usage.from_raw(usage.raw)
    else:
        assert attributes.get("gen_ai.usage.input_tokens") == expect["input_tokens_total"]
        assert attributes.get("gen_ai.usage.output_tokens") == expect["output_tokens"]
        assert attributes.get("gen_ai.usage.cache_read.input_tokens") == expect["cache_read_tokens"]
        assert attributes.get("gen_ai.usage.cache_write.input_tokens") == expect["cache_write_tokens"]
        assert attributes.get("gen_ai.usage.reasoning.output_tokens") == expect["reasoning_tokens"]
    assert usage.input_tokens == expect["input_tokens_total"]
    assert usage.output_tokens == expect["output_tokens"]
    assert usage.cache_read_tokens == expect["cache_read_tokens"]
    assert usage.cache_write_tokens == expect["cache_write_tokens"]
    assert usage.reasoning_tokens == expect["reasoning_tokens"]
    assert usage.details.get("cache_write_5m_tokens") == expect["cache_write_5m_tokens"]
    assert usage.details.get("cache_write_1h_tokens") == expect["cache_write_1h_tokens"]
    assert usage.details.get("iterations_input_tokens") == expect["iterations_input_tokens_total"]
    assert usage.details.get("iterations_output_tokens") == expect["iterations_output_tokens"]
    assert usage.raw == expect["usage_raw"]
    assert usage.source == expect.get("source", "provider" if expect["usage_raw"] else "none")


def check_error(interaction: Interaction, record: ProviderTrace, error: BaseException | None) -> None:
    told = interaction.expect["error"]
    if told is not None:
        assert record.status == "error"
        check_error_type(interaction, record.error_type, error)
        assert record.error_message == mask_errors(told["message"] or "")[:1000]
    elif error is not None:
        assert (record.status, record.error_type) == ("error", class_of(error))
    else:
        assert record.status == ("incomplete" if interaction.is_cut else "ok")
        assert record.error_type is None


def check_error_type(interaction: Interaction, kind: str | None, error: BaseException | None) -> None:
    """The code where it is a word, else the type; the status where neither tells 401, 403 and 404 from 400."""
    told, http_status = interaction.expect["error"], interaction.response["status"]
    code, named = str(told["code"]), told["type"]
    says_status = {str(told["http_status"])} if told["http_status"] >= 400 else {code} if code.isdecimal() else set()
    assert kind in {code, named, class_of(error)} | says_status
    if code.replace("_", "").isalpha() and (code != "None" and code != "invalid_request_error"):
        assert kind == code
    elif http_status in (401, 403, 404):
        assert kind != "invalid_request_error"
    assert kind is not None
    assert not kind.isdecimal() or kind in says_status


def class_of(error: BaseException | None) -> str | None:
    kind = type(error)
    return None if error is None else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def check_request(interaction: Interaction, record: ProviderTrace) -> None:
    if interaction.request["method"] == "GET":
        assert record.request_json is None
        return
    assert record.request_json is not None
    sent = json.loads(record.request_json)
    for key, value in (interaction.request["body"] or {}).items():
        if key == "file":
            assert sent[key]["filename"] == value.removeprefix("@")
        elif key in sent or interaction.client not in ("bedrock", "vertex"):  # these have some in their URL
            assert sent[key] == value
    assert "sk-planted-secret" not in record.to_json()


def check_content(interaction: Interaction, record: ProviderTrace) -> None:
    """Text and tool calls of the reassembled response."""
    if record.api not in CONTENT:
        return
    response = json.loads(record.response_json or "{}")
    text, tools = CONTENT[record.api](response)
    assert text == interaction.expect["text"]
    expected = [(tool["id"], tool["name"], tool["arguments"]) for tool in interaction.expect["tool_calls"]]
    assert [plain(tool) for tool in tools] == [plain(tool) for tool in expected]


def plain(tool: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """A tool call whose arguments can be compared, whether they came as text or as an object."""
    identity, name, arguments = tool
    with suppress(ValueError):  # arguments need not be JSON
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    if isinstance(arguments, dict):  # what Anthropic's guide proposes for such
        arguments = arguments.get("INVALID_JSON", arguments)
    return identity, name, arguments or {}


def chat_content(response: Any) -> tuple[str, list[Any]]:
    texts: list[str] = []
    tools: list[Any] = []
    if isinstance(response, str):  # a body that nothing could be read from is kept as the text that it is
        return "", []
    for choice in response.get("choices") or []:
        message = choice.get("message") or {}
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content if part.get("type") == "text")
        elif isinstance(content, dict):
            content = json.dumps(content)
        texts.append(content or "")
        for tool in message.get("tool_calls") or []:
            inner = tool.get("function") or tool.get("custom") or {}
            tools.append((tool.get("id"), inner.get("name"), inner.get("arguments", inner.get("input"))))
        if message.get("function_call") is not None:
            tools.append((None, message["function_call"]["name"], message["function_call"]["arguments"]))
    return "".join(texts), tools


def completions_content(response: Any) -> tuple[str, list[Any]]:
    return "".join(choice.get("text") or "" for choice in response.get("choices") or []), []


def transcription_content(response: Any) -> tuple[str, list[Any]]:
    return response if isinstance(response, str) else response.get("text") or "", []


def complete_content(response: Any) -> tuple[str, list[Any]]:
    return response.get("completion") or "", []


def responses_content(response: Any) -> tuple[str, list[Any]]:
    texts: list[str] = []
    tools: list[Any] = []
    for item in response.get("output") or []:
        if item.get("type") == "message":
            texts += [part.get("text") or "" for part in item["content"] if part["type"] == "output_text"]
        elif item.get("type") in ("function_call", "custom_tool_call"):
            tools.append((item.get("call_id"), item.get("name"), item.get("arguments", item.get("input"))))
    return "".join(texts), tools


def messages_content(response: Any) -> tuple[str, list[Any]]:
    blocks = response.get("content") or []
    text = "".join(block.get("text") or "" for block in blocks if block["type"] == "text")
    return text, [(b.get("id"), b.get("name"), b.get("input")) for b in blocks if b["type"] == "tool_use"]


CONTENT: dict[str, Callable[[Any], tuple[str, list[Any]]]] = {
    "complete": complete_content,
    "transcriptions": transcription_content,
    "translations": transcription_content,
    "chat_completions": chat_content,
    "completions": completions_content,
    "responses": responses_content,
    "messages": messages_content,
}
