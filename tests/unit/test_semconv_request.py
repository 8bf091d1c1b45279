"""What a span says of its request: parameters by API, and nothing that would have to be read for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from llmspan import semconv

OPENAI = {"openai.api.type": "chat_completions"}


def asked(api: str = "chat_completions", /, **body: Any) -> dict[str, Any]:
    """The request's attributes, less the one that all chat completions have."""
    found = semconv.request_attributes("openai", api, body)
    assert found.get("openai.api.type") == (api if api in ("chat_completions", "responses") else None)
    return {name: value for name, value in found.items() if name != "openai.api.type"}


class Untouchable:
    """Stands for anything that must not be iterated, measured or asked whether it is true."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("iterated")

    __len__ = __bool__ = __getitem__ = __contains__ = __iter__  # type: ignore[assignment]


def test_no_iterable_is_read():
    """A generator given as messages, input, tools or stop is left as it was, and nothing else is iterated either."""
    spent: list[str] = []

    def generator() -> Iterator[str]:
        spent.append("spent")
        yield "x"

    keys = ["messages", "input", "tools", "stop", "system", "prompt", "temperature", "reasoning", "response_format"]
    for api in ("chat_completions", "responses", "messages", "embeddings", "completions"):
        for key in keys:
            assert asked(api, **{key: generator()}) == {}
            assert asked(api, **{key: Untouchable()}) == {}
    assert spent == []


def test_chat_parameters():
    """The parameters of a chat completion, each under its name and with its type; whole numbers become doubles."""
    found = asked(
        model="gpt-5", messages=[], temperature=1, top_p=0.5, frequency_penalty=0, presence_penalty=-1, seed=7,
        max_completion_tokens=64, n=3, stop=["a", "b"], reasoning_effort="high", service_tier="priority",
        response_format={"type": "json_schema", "json_schema": {}}, stream=True,
    )  # fmt: skip
    assert found == {
        "gen_ai.request.temperature": 1.0, "gen_ai.request.top_p": 0.5, "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": -1.0, "gen_ai.request.seed": 7, "gen_ai.request.max_tokens": 64,
        "gen_ai.request.choice.count": 3, "gen_ai.request.stop_sequences": ("a", "b"),
        "gen_ai.request.reasoning.level": "high", "openai.request.service_tier": "priority",
        "gen_ai.output.type": "json",
    }  # fmt: skip
    assert type(found["gen_ai.request.temperature"]) is float


def test_responses_parameters():
    """The parameters of a response, its reasoning effort and its text format where they are nested."""
    assert asked("responses", max_output_tokens=9, previous_response_id="resp_1", reasoning={"effort": "low"},
                 text={"format": {"type": "json_object"}}, service_tier="flex") == {
        "gen_ai.request.max_tokens": 9, "gen_ai.request.previous_response.id": "resp_1",
        "gen_ai.request.reasoning.level": "low", "gen_ai.output.type": "json", "openai.request.service_tier": "flex",
    }  # fmt: skip


def test_messages_parameters():
    """The parameters of a message; its service tier and format have no OpenAI name."""
    assert asked("messages", max_tokens=9, top_k=40, stop_sequences=("x",), output_config={"effort": "max"},
                 temperature=0.0, service_tier="standard_only") == {
        "gen_ai.request.max_tokens": 9, "gen_ai.request.top_k": 40, "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.request.reasoning.level": "max", "gen_ai.request.temperature": 0.0,
    }  # fmt: skip


def test_embeddings_parameters():
    """Embeddings have dimensions and an encoding, which means nothing elsewhere."""
    body = {"dimensions": 256, "encoding_format": "base64"}
    assert asked("embeddings", **body) == {
        "gen_ai.embeddings.dimension.count": 256, "gen_ai.request.encoding_formats": ("base64",),
    }  # fmt: skip
    assert asked("chat_completions", encoding_format="base64") == {}


@pytest.mark.parametrize("body", [
    {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}, {"output_config": {"effort": "high"}},
])  # fmt: skip
def test_reasoning_effort(body):
    """The reasoning effort is found in all three places where providers have it."""
    assert asked(**body) == {"gen_ai.request.reasoning.level": "high"}


@pytest.mark.parametrize(
    ("value", "written"), [(40, 40), (0, 0), (0.5, None), (40.0, None), (True, None), ("40", None)]
)
def test_top_k_is_a_whole_number(value, written):
    """``top_k`` is an int; nothing else is written for it, ``top_logprobs`` least of all."""
    assert asked("messages", top_k=value, top_logprobs=5).get("gen_ai.request.top_k") == written


@pytest.mark.parametrize(("value", "written"), [(1, None), (0, 0), (2, 2), (None, None), (True, None), (False, None),
                                                ("2", None)])  # fmt: skip
def test_choice_count(value, written):
    """The number of choices is written unless it is one."""
    assert asked(n=value) == ({} if written is None else {"gen_ai.request.choice.count": written})


@pytest.mark.parametrize(("value", "written"), [
    ("x", ("x",)), ("", ("",)), (["x", "y"], ("x", "y")), ((), ()), (["x", 1], None), (None, None), ({"x"}, None),
])  # fmt: skip
def test_stop(value, written):
    """Stop sequences come as one text or as several, and are written as several."""
    for key in ("stop", "stop_sequences"):
        assert asked(**{key: value}) == ({} if written is None else {"gen_ai.request.stop_sequences": written})


class Format(BaseModel):
    answer: str


@pytest.mark.parametrize(("form", "written"), [
    ({"type": "text"}, "text"), ({"type": "json_object"}, "json"), ({"type": "json_schema"}, "json"),
    ({"type": "grammar"}, None), ({"type": ["text"]}, None), ({}, None), (None, None), (Format, None), ("text", None),
])  # fmt: skip
def test_output_type(form, written):
    """The output type is the format's, where chat completions and where responses have it; odd ones are passed over."""
    expected = {} if written is None else {"gen_ai.output.type": written}
    assert asked(response_format=form) == expected
    assert asked("responses", text={"format": form}) == expected


@pytest.mark.parametrize("key", ["output_config", "output_format"])
@pytest.mark.parametrize(("kind", "written"), [("json_schema", "json"), ("text", "text"), ("grammar", None), (5, None)])
def test_output_type_of_messages(key, kind, written):
    """Anthropic's structured output is JSON, under the parameter of today and that of the beta."""
    form = {"type": kind, "schema": {}}
    found = asked("messages", **{key: {"format": form, "effort": "low"} if key == "output_config" else form})
    effort = {"gen_ai.request.reasoning.level": "low"} if key == "output_config" else {}
    assert found == effort | ({} if written is None else {"gen_ai.output.type": written})


@pytest.mark.parametrize(("body", "written"), [
    ({"modalities": ["text", "audio"]}, "speech"), ({"modalities": ("audio",)}, "speech"),
    ({"modalities": ["image", "text"]}, "image"), ({"modalities": ["text"]}, None), ({"modalities": []}, None),
    ({"modalities": ["text", "audio"], "response_format": {"type": "text"}}, "speech"),
    ({"response_format": {"type": "json_object"}, "modalities": ["text"]}, "json"),
    ({"modalities": None}, None), ({"modalities": "audio"}, None), ({"modalities": [["audio"], None, {}]}, None),
])  # fmt: skip
def test_output_type_of_modalities(body, written):
    """A chat that asks to be spoken to, or for a picture, says so; text beside it changes nothing."""
    assert asked(**body) == ({} if written is None else {"gen_ai.output.type": written})


@pytest.mark.parametrize(("api", "written"), [("speech", "speech"), ("images", "image"), ("transcriptions", "text")])
def test_output_type_of_an_api(api, written):
    """What an API makes is its output type, whatever the format of the answer."""
    assert asked(api, response_format="json") == {"gen_ai.output.type": written}


@pytest.mark.parametrize(("prompt", "written"), [
    ({"id": "pmpt_1", "version": "3", "variables": {"city": "Oslo"}}, ("pmpt_1", "3")),
    ({"id": "pmpt_1"}, ("pmpt_1", None)), ({"id": "pmpt_1", "version": None}, ("pmpt_1", None)),
    ({"version": "3"}, (None, None)), ("Say hi", (None, None)), (["Say", "hi"], (None, None)), (None, (None, None)),
])  # fmt: skip
def test_prompt_templates(prompt, written):
    """A prompt template of the Responses API is named, with its version if it has one; its variables are content."""
    found = asked("responses", prompt=prompt)
    assert (found.get("gen_ai.prompt.name"), found.get("gen_ai.prompt.version")) == written
    assert set(found) <= {"gen_ai.prompt.name", "gen_ai.prompt.version"}


@pytest.mark.parametrize("name", ["temperature", "top_p", "seed", "max_tokens", "previous_response_id", "dimensions",
                                  "reasoning_effort", "service_tier", "n", "encoding_format"])  # fmt: skip
@pytest.mark.parametrize("value", [None, True, [], {}, object(), Format])
def test_parameters_of_other_types(name, value):
    """``None``, the SDKs' omit markers and whatever else a parameter should not be are passed over."""
    assert asked("responses", **{name: value}) == {}
    assert asked("embeddings", **{name: value}) == {}


def test_two_names_of_one_limit():
    """If both names of the token limit are given, it is always the same one that is written."""
    for body in ({"max_tokens": 1, "max_completion_tokens": 2}, {"max_completion_tokens": 2, "max_tokens": 1}):
        assert asked(**body) == {"gen_ai.request.max_tokens": 2}


def test_automatic_tier():
    """The service tier ``auto`` is the default and is not written."""
    assert asked(service_tier="auto") == {}
