"""The demo server, as the real SDKs see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from llmspan.demo.parts import ANSWER, THOUGHT
from llmspan.demo.server import DemoServer

ASK = [{"role": "user", "content": "One sentence about traces."}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}}}
CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
ARGUMENTS = {"city": "Oslo", "unit": "C"}


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


@pytest.fixture
def gpt(server: DemoServer) -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(api_key="demo", base_url=server.openai_base_url, http_client=http) as client:
        yield client


@pytest.fixture
def claude(server: DemoServer) -> Iterator[anthropic.Anthropic]:
    http = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(api_key="demo", base_url=server.anthropic_base_url, http_client=http) as client:
        yield client


def message(client: anthropic.Anthropic, **changes: Any) -> anthropic.types.Message:
    return client.messages.create(**{"model": "claude-opus-5", "max_tokens": 99, "messages": ASK, **changes})


def test_a_chat_has_text_and_usage(gpt: openai.OpenAI) -> None:
    """A chat completion is whole, names the dated model and counts every kind of token."""
    reply = gpt.chat.completions.create(model="gpt-5.4", messages=ASK)
    assert (reply.model, reply.choices[0].message.content) == ("gpt-5.4-2026-03-05", ANSWER)
    usage = reply.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens + usage.prompt_tokens_details.cache_write_tokens < 1_482
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


def test_a_chat_stream_is_the_same_chat(gpt: openai.OpenAI) -> None:
    """The pieces add up to the text, and usage comes in a last chunk only when asked for."""
    whole = gpt.chat.completions.create(model="gpt-5.4", messages=ASK)
    with gpt.chat.completions.create(
        model="gpt-5.4", messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    with gpt.chat.completions.create(model="gpt-5.4", messages=ASK, stream=True) as stream:
        assert all(chunk.usage is None for chunk in stream)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_chat_with_tools_calls_one(gpt: openai.OpenAI, streamed: bool) -> None:
    """With tools the model calls the first of them with arguments that fit its schema."""
    if streamed:
        with gpt.chat.completions.stream(model="gpt-5.4", messages=ASK, tools=[CHAT_TOOL]) as stream:
            reply = stream.get_final_completion()
    else:
        reply = gpt.chat.completions.create(model="gpt-5.4", messages=ASK, tools=[CHAT_TOOL])
    (call,) = reply.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", ARGUMENTS)
    assert reply.choices[0].finish_reason == "tool_calls"


def test_a_tool_result_ends_the_calling(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """Once a result is there the answer is text, so that an agent's loop ends."""
    result = {"role": "tool", "tool_call_id": "call_1", "content": "7 °C"}
    reply = gpt.chat.completions.create(model="gpt-5.4", messages=[*ASK, result], tools=[CHAT_TOOL])
    assert reply.choices[0].message.content == ANSWER
    tools = [{"name": "get_weather", "input_schema": CITY}]
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "7 °C"}]}
    assert message(claude, messages=[*ASK, result], tools=tools).content[0].text == ANSWER


def test_a_response_is_the_same_streamed_or_not(gpt: openai.OpenAI) -> None:
    """The Responses API gives reasoning, text and usage, and its stream ends with the very same."""
    whole = gpt.responses.create(model="gpt-5.4", input="Hi")
    with gpt.responses.stream(model="gpt-5.4", input="Hi") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert whole.output_text == final.output_text == ANSWER
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output[0].summary[0].text == THOUGHT
    assert final.usage == whole.usage
    assert whole.usage.input_tokens_details.cache_write_tokens_details.ttl_30m_tokens > 0
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_a_response_with_tools_calls_one(gpt: openai.OpenAI) -> None:
    """A function call arrives in pieces and is whole at the end."""
    tool = {"type": "function", "name": "get_weather", "parameters": CITY, "strict": False}
    with gpt.responses.stream(model="gpt-5.4", input="Hi", tools=[tool]) as stream:
        deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (call,) = stream.get_final_response().output
    assert "".join(deltas) == call.arguments
    assert json.loads(call.arguments) == ARGUMENTS


def test_embeddings_are_vectors(gpt: openai.OpenAI) -> None:
    """One unit vector for each text, in the length asked for, in either encoding."""
    reply = gpt.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=4)
    plain = gpt.embeddings.create(
        model="text-embedding-3-small", input=["a", "b"], dimensions=4, encoding_format="float"
    )
    assert [len(item.embedding) for item in reply.data] == [4, 4]
    assert reply.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert sum(x * x for x in plain.data[1].embedding) == pytest.approx(1)


def test_a_message_thinks_when_asked(claude: anthropic.Anthropic) -> None:
    """Thinking blocks come with thinking on only, and their tokens are part of the output."""
    silent, loud = message(claude), message(claude, thinking={"type": "adaptive"})
    assert [block.type for block in silent.content] == ["text"]
    assert [block.type for block in loud.content] == ["thinking", "text"]
    assert silent.usage.output_tokens_details.thinking_tokens == 0
    assert loud.usage.output_tokens == silent.usage.output_tokens + loud.usage.output_tokens_details.thinking_tokens


def test_a_message_stream_is_the_same_message(claude: anthropic.Anthropic) -> None:
    """The stream starts with a placeholder for the output and ends with the numbers of the whole message."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    whole = message(claude, thinking=thinking)
    with claude.messages.stream(model="claude-opus-5", max_tokens=2048, messages=ASK, thinking=thinking) as stream:
        start = next(iter(stream))
        final = stream.get_final_message()
    assert start.message.usage.output_tokens < whole.usage.output_tokens
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[1].text == ANSWER
    assert final.usage == whole.usage
    split = whole.usage.cache_creation
    assert split.ephemeral_5m_input_tokens + split.ephemeral_1h_input_tokens == whole.usage.cache_creation_input_tokens


def test_a_message_with_tools_uses_one(claude: anthropic.Anthropic) -> None:
    """Tool input is streamed as JSON text and parsed by the SDK."""
    tools = [{"name": "get_weather", "input_schema": CITY}]
    with claude.messages.stream(model="claude-opus-5", max_tokens=99, messages=ASK, tools=tools) as stream:
        final = stream.get_final_message()
    assert (final.content[0].name, final.content[0].input) == ("get_weather", ARGUMENTS)
    assert final.stop_reason == "tool_use"


def test_an_overloaded_model_is_refused(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """Each SDK raises its own error, after its retries."""
    with pytest.raises(anthropic.APIStatusError, match="Overloaded") as refused:
        message(claude, model="demo-overloaded")
    assert refused.value.status_code == 529
    with pytest.raises(openai.RateLimitError):
        gpt.responses.create(model="demo-overloaded", input="Hi")


def test_a_cut_stream_breaks(gpt: openai.OpenAI) -> None:
    """The connection ends after some chunks, without the end of the stream."""
    seen = 0
    with (  # noqa: PT012 - the error comes between chunks
        pytest.raises(openai.APIConnectionError),
        gpt.chat.completions.create(model="demo-cut", messages=ASK, stream=True) as stream,
    ):
        for _ in stream:
            seen += 1
    assert seen > 3


def test_a_client_may_stop_reading(gpt: openai.OpenAI) -> None:
    """A stream that is closed early does not trouble the server, which goes on answering."""
    stream = gpt.chat.completions.create(model="gpt-5.4", messages=ASK, stream=True)
    next(iter(stream))
    stream.close()
    assert gpt.chat.completions.create(model="gpt-5.4", messages=ASK).choices


def test_other_paths_and_bodies_are_refused(gpt: openai.OpenAI) -> None:
    """What the server does not speak is a clear error of the provider's shape."""
    with pytest.raises(openai.NotFoundError, match="only takes POST"):
        gpt.models.list()
    with pytest.raises(openai.NotFoundError, match="has no /v1/moderations"):
        gpt.moderations.create(input="Hi")
    with pytest.raises(openai.BadRequestError, match="not a JSON object"):
        gpt.post("/chat/completions", cast_to=object, body=[])


def test_counting_is_what_the_message_reports(claude: anthropic.Anthropic) -> None:
    """Counting tokens gives the whole input of the same message, cached or not."""
    counted = claude.messages.count_tokens(model="claude-opus-5", messages=ASK)
    usage = message(claude).usage
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    assert counted.input_tokens == usage.input_tokens + cached


def test_a_generation_is_the_same_streamed_or_not(server: DemoServer) -> None:
    """The Gemini API: text and usage of both, and an error in its own shape."""
    options = types.HttpOptions(base_url=server.anthropic_base_url, client_args={"trust_env": False})
    client = genai.Client(api_key="demo", http_options=options)
    one = client.models.generate_content(model="gemini-2.5-flash", contents="hi")
    chunks = list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi"))
    assert "".join(chunk.text or "" for chunk in chunks) == one.text
    assert chunks[-1].usage_metadata == one.usage_metadata
    with pytest.raises(errors.ClientError) as refusal:
        client.models.generate_content(model="demo-overloaded", contents="hi")
    assert (refusal.value.code, refusal.value.status) == (429, "RESOURCE_EXHAUSTED")


def test_gemini_asks_for_a_tool_first(server: DemoServer) -> None:
    """With functions it calls one with arguments that fit, streamed or not, and answers when it has the result."""
    options = types.HttpOptions(base_url=server.anthropic_base_url, client_args={"trust_env": False})
    client = genai.Client(api_key="demo", http_options=options)
    city = types.Schema(type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)})
    tool = types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", parameters=city)])
    ask = {"model": "gemini-2.5-flash", "config": types.GenerateContentConfig(tools=[tool])}
    reply = client.models.generate_content(contents="hi", **ask)
    (chunk,) = client.models.generate_content_stream(contents="hi", **ask)
    for one in (reply, chunk):
        assert [(call.name, call.args) for call in one.function_calls or ()] == [("weather", {"city": "Oslo"})]
    result = types.Part.from_function_response(name="weather", response={"result": "18 degrees"})
    assert client.models.generate_content(contents=["hi", result], **ask).text == ANSWER
