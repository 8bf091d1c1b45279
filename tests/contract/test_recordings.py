"""Every recorded interaction, replayed through the real SDK with llmspan watching: one span, one exact record.

The expectations were computed from the raw bodies with plain JSON parsing, without any SDK and without this project.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel, ValidationError

from llmspan.content import Policy
from llmspan.redaction import mask_errors
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from replay import Recording, call, client_for, recording_ids, replay_sync, transport
from watching import Watch, watching

pytestmark = [
    pytest.mark.recordings,
    pytest.mark.filterwarnings("ignore:The model '.*' is deprecated:DeprecationWarning"),  # the SDK's own
]

#: media of any size are kept: every byte is compared
WHOLE = Policy(max_media_bytes=1 << 40)
MODELS: dict[str, type[BaseModel]] = {
    "chat.completions": ChatCompletion,
    "completions": Completion,
    "responses": Response,
    "messages": Message,
    "beta.messages": BetaMessage,
}


async def replay_async(recording: Recording, watch: Watch) -> None:
    """The same, async."""
    mock = transport(recording.response["status"], recording.response["headers"], recording.pieces)
    async with client_for(recording.provider, mock, is_async=True) as client:
        result = await call(client, recording)
        if recording.streams:
            async for _ in result:
                pass


#: how a raw response is read: ``with_raw_response`` and ``.parse()``, ``with_streaming_response`` and each of its own
WAYS = ("parse", "streaming", "lines", "bytes")


def replay_raw(recording: Recording, way: str) -> None:
    """Make the call by one of the raw variants and read it to its end."""
    mock = transport(recording.response["status"], recording.response["headers"], recording.pieces)
    with client_for(recording.provider, mock) as client:
        if way == "parse":
            read(recording, call(client, recording, "with_raw_response").parse())
            return
        with call(client, recording, "with_streaming_response") as response:
            if way == "streaming":
                read(recording, response.parse())
            else:
                for _ in response.iter_lines() if way == "lines" else response.iter_bytes():
                    pass


def read(recording: Recording, result: Any) -> None:
    if recording.streams:
        for _ in result:
            pass


async def replay_raw_async(recording: Recording, way: str) -> None:
    """The same, async."""
    mock = transport(recording.response["status"], recording.response["headers"], recording.pieces)
    async with client_for(recording.provider, mock, is_async=True) as client:
        if way == "parse":
            parsed = (await call(client, recording, "with_raw_response")).parse()
            await read_async(recording, await parsed if hasattr(parsed, "__await__") else parsed)
            return
        async with call(client, recording, "with_streaming_response") as response:
            if way == "streaming":
                await read_async(recording, await response.parse())
            else:
                async for _ in response.iter_lines() if way == "lines" else response.iter_bytes():
                    pass


async def read_async(recording: Recording, result: Any) -> None:
    if recording.streams:
        async for _ in result:
            pass


@pytest.mark.parametrize("name", recording_ids())
def test_sync(name: str) -> None:
    """One span and one record, equal to what the recording is known to hold."""
    recording = Recording.load(name)
    with watching(policy=WHOLE) as watch:
        error = exception_of(lambda: replay_sync(recording))
    check(recording, watch, error)


@pytest.mark.anyio
@pytest.mark.parametrize("name", recording_ids())
async def test_async(name: str) -> None:
    """The same through the async client."""
    recording = Recording.load(name)
    with watching(policy=WHOLE) as watch:
        error: BaseException | None = None
        try:
            await replay_async(recording, watch)
        except Exception as raised:
            error = raised
    check(recording, watch, error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", recording_ids())
def test_raw(name: str, way: str) -> None:
    """The same where the caller takes the raw response, and parses it, or reads its lines or bytes himself."""
    recording = Recording.load(name)
    with watching(policy=WHOLE) as watch:
        error = exception_of(lambda: replay_raw(recording, way))
    check(recording, watch, error, unread=way in ("lines", "bytes"))


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", recording_ids())
async def test_asyncraw(name: str, way: str) -> None:
    """The same through the async client."""
    recording = Recording.load(name)
    with watching(policy=WHOLE) as watch:
        error: BaseException | None = None
        try:
            await replay_raw_async(recording, way)
        except Exception as raised:
            error = raised
    check(recording, watch, error, unread=way in ("lines", "bytes"))


def exception_of(function: Callable[[], None]) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


def check(recording: Recording, watch: Watch, error: BaseException | None, *, unread: bool = False) -> None:
    """All that the recording's ``expect`` says, on the record and on the span.

    ``unread``: the SDK did not read the events, and so had nothing to raise about those.
    """
    raised = None if unread and recording.response["status"] < 400 else recording.sdk_error
    assert (type(error).__name__ if error else None) == raised, error
    record, span = watch.only()
    expect = recording.expect
    assert span.end_time is not None
    assert span.attributes is not None
    assert record.span_id == f"{span.context.span_id:016x}"
    assert record.api == recording.record_api
    assert record.http_status == recording.response["status"]
    check_usage(recording, record, span.attributes)
    if recording.response["status"] < 400:
        assert list(record.finish_reasons) == (expect["finish_reasons"] or [])
        assert record.response_id == expect["response_id"]
        assert record.response_model == expect["response_model"]
        assert record.service_tier == expect["service_tier"]
        check_content(recording, record)
    check_error(recording, record, error)
    if expect["is_sse"]:
        assert record.chunk_count == expect["n_sse_events_without_ping"]
        assert record.time_to_first_chunk_ns is None or 0 <= record.time_to_first_chunk_ns <= record.duration_ns
    check_request(recording, record)


def check_usage(recording: Recording, record: ProviderTrace, attributes: Any) -> None:
    expect = recording.expect
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
    assert usage.source == ("provider" if expect["usage_raw"] else "none")


def check_error(recording: Recording, record: ProviderTrace, error: BaseException | None) -> None:
    told = recording.expect["error"]
    if told is not None:
        assert record.status == "error"
        check_error_type(recording, record.error_type, error)
        assert record.error_message == mask_errors(told["message"] or "")[:1000]
    elif error is not None:
        assert (record.status, record.error_type) == ("error", class_of(error))
    else:
        finished = recording.id not in CUT
        assert record.status == ("ok" if finished else "incomplete")
        assert record.error_type is None


def check_error_type(recording: Recording, kind: str | None, error: BaseException | None) -> None:
    """The code where it is a word, else the type; the status where neither tells 401, 403 and 404 from 400."""
    told, http_status = recording.expect["error"], recording.response["status"]
    code, named = str(told["code"]), told["type"]
    says_status = {str(told["http_status"])} if told["http_status"] >= 400 else {code} if code.isdecimal() else set()
    assert kind in {code, named, class_of(error)} | says_status
    if code.replace("_", "").isalpha() and (code != "None" and code != "invalid_request_error"):
        assert kind == code
    elif http_status in (401, 403, 404):
        assert kind != "invalid_request_error"
    assert kind is not None
    assert not kind.isdecimal() or kind in says_status


#: streams that end without a finish reason or terminal event
CUT = {"chat_completions-stream-gpustack-1e0c48d270", "completions-stream-writer-bf0b3db08f"}


def class_of(error: BaseException | None) -> str | None:
    kind = type(error)
    return None if error is None else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def check_request(recording: Recording, record: ProviderTrace) -> None:
    if recording.request["method"] == "GET":
        assert record.request_json is None
        return
    assert record.request_json is not None
    sent = json.loads(record.request_json)
    for key, value in (recording.request["body"] or {}).items():
        assert sent[key] == value
    assert "sk-planted-secret" not in record.to_json()


def check_content(recording: Recording, record: ProviderTrace) -> None:
    """Text and tool calls of the reassembled response."""
    if recording.api == "embeddings":
        return
    response = json.loads(record.response_json or "null")
    text, tools = CONTENT[record.api](response)
    assert text == recording.expect["text"]
    expected = [(tool["id"], tool["name"], tool["arguments"]) for tool in recording.expect["tool_calls"]]
    assert [plain(tool) for tool in tools] == [plain(tool) for tool in expected]


def plain(tool: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """A tool call whose arguments can be compared, whether they came as text or as an object."""
    identity, name, arguments = tool
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        arguments = arguments.get("INVALID_JSON", arguments) if isinstance(arguments, dict) else arguments
    return identity, name, arguments or {}


def chat_content(response: Any) -> tuple[str, list[Any]]:
    texts: list[str] = []
    tools: list[Any] = []
    for choice in (response or {}).get("choices") or []:
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
    return "".join(choice.get("text") or "" for choice in (response or {}).get("choices") or []), []


def responses_content(response: Any) -> tuple[str, list[Any]]:
    texts: list[str] = []
    tools: list[Any] = []
    for item in response.get("output") or []:
        if item["type"] == "message":
            texts += [part.get("text") or "" for part in item["content"] if part["type"] == "output_text"]
        elif item["type"] in ("function_call", "custom_tool_call"):
            tools.append((item.get("call_id"), item.get("name"), item.get("arguments", item.get("input"))))
    return "".join(texts), tools


def messages_content(response: Any) -> tuple[str, list[Any]]:
    blocks = response.get("content") or []
    text = "".join(block.get("text") or "" for block in blocks if block["type"] == "text")
    return text, [(b.get("id"), b.get("name"), b.get("input")) for b in blocks if b["type"] == "tool_use"]


CONTENT: dict[str, Callable[[Any], tuple[str, list[Any]]]] = {
    "chat_completions": chat_content,
    "completions": completions_content,
    "responses": responses_content,
    "messages": messages_content,
}


STREAMS = [name for name in recording_ids() if "-stream-" in name]


@pytest.mark.parametrize("name", STREAMS)
def test_reassembled_response_is_the_sdks_model(name: str) -> None:
    """A reassembled stream is an object of the SDK's non-streaming model, as strictly as what was sent allows."""
    recording = Recording.load(name)
    if not recording.expect["is_sse"]:
        assert recording.response["status"] >= 400  # an error reply: there is nothing to reassemble
        return
    with watching(policy=WHOLE) as watch:
        exception_of(lambda: replay_sync(recording))
    (record,) = watch.records
    response = json.loads(record.response_json or "null")
    model = MODELS[recording.api]
    faults = strict_faults(model, response)
    unexplained = [fault for fault in faults if not sent_so(fault, recording)]
    assert unexplained == []
    lenient = model.construct(**response)  # what the SDK itself does with every response: it never validates
    assert lenient.model_dump(exclude_unset=True, warnings=False).keys() >= response.keys()


def strict_faults(model: type[BaseModel], response: Any) -> list[Any]:
    try:
        model.model_validate(response)
    except ValidationError as error:
        return list(error.errors())
    return []


def sent_so(fault: Any, recording: Recording) -> bool:
    """Whether strict validation stumbles over what the provider sent (or left out) rather than over our work."""
    if recording.api == "responses":  # the terminal event's response is stored as it came
        terminal = [
            json.loads(line[5:]) for line in recording.response["body"].splitlines() if line.startswith("data: {")
        ]
        whole = [event["response"] for event in terminal if "response" in event][-1]
        return any(fault["loc"] == other["loc"] for other in strict_faults(Response, whole))
    if recording.api == "messages" and any(mark in recording.response["body"] for mark in BETA_BLOCKS):
        return True  # blocks that only the beta API's model knows, in a recording of the plain API
    if fault["type"] == "missing":
        return f'"{fault["loc"][-1]}"' not in recording.response["body"]
    given = fault["input"]
    if fault["type"] == "literal_error" and given is None:  # a choice that never got a finish reason
        return recording.expect["finish_reasons"] == [None]
    if isinstance(given, list):  # Mistral's content is a list of parts, streamed and not
        return recording.upstream == "mistral"
    return json.dumps(given) in recording.response["body"]


BETA_BLOCKS = ('"mcp_tool_use"', '"advisor"')
