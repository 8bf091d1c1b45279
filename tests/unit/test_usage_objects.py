"""Usage objects beside ``usage``: hosted tools, SVG, and whatever the SDKs' response models may grow next."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from openai.types import CreateEmbeddingResponse, ImageEditStreamEvent, ImageGenStreamEvent, ImagesResponse
from openai.types.audio import Transcription, TranscriptionStreamEvent, TranscriptionVerbose
from openai.types.beta import BetaResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion import Completion
from openai.types.decision import Decision
from openai.types.moderation_create_response import ModerationCreateResponse
from openai.types.responses import CompactedResponse, Response
from pydantic import BaseModel

from llmspan.usage import KNOWN_COUNTS
from wires import both, created, ended, wire

IMAGE_GEN = {
    "input_tokens": 50, "output_tokens": 4000, "total_tokens": 4050, "cached_tokens": 7,
    "cached_tokens_details": {"cached_image_tokens": 3, "cached_text_tokens": 4},
    "input_tokens_details": {"image_tokens": 20, "text_tokens": 30},
    "output_tokens_details": {"image_tokens": 3900, "text_tokens": 100},
}  # fmt: skip
TOOLS = {"image_gen": IMAGE_GEN, "web_search": {"num_requests": 3}}
TOOL_DETAILS = {
    "image_gen_input_tokens": 50, "image_gen_output_tokens": 4000, "image_gen_cache_read_tokens": 7,
    "image_gen_cache_read_image_tokens": 3, "image_gen_cache_read_text_tokens": 4, "image_gen_image_input_tokens": 20,
    "image_gen_text_input_tokens": 30, "image_gen_image_output_tokens": 3900, "image_gen_text_output_tokens": 100,
    "web_search_requests": 3,
}  # fmt: skip
USAGE = {"input_tokens": 20, "output_tokens": 9, "total_tokens": 29}


@pytest.mark.parametrize("api", ["responses", "responses_compact"])
@pytest.mark.parametrize("streamed", [True, False])
def test_what_hosted_tools_spent(api: str, streamed: bool) -> None:
    """Searches and image tokens are details; the five numbers and ``raw`` are those of the base model."""
    end = ended("completed", usage=USAGE, tool_usage=TOOLS)
    body = wire(created(), end) if streamed else json.dumps(end["response"]).encode()
    usage = both(api, body)[0].usage
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (20, 9, None)
    assert usage.details == TOOL_DETAILS
    assert (usage.raw, usage.source) == (USAGE, "provider")


@pytest.mark.parametrize("tools", [None, {}, "odd", [], {"image_gen": None, "web_search": {"num_requests": None}}])
def test_no_report_of_tools(tools: Any) -> None:
    """Without a report of tools there are no details of them; a zero is a report."""
    assert both("responses", wire(ended("completed", usage=USAGE, tool_usage=tools)))[0].usage.details == {}
    zero = {"web_search": {"num_requests": 0}}
    usage = both("responses", wire(ended("completed", usage=USAGE, tool_usage=zero)))[0].usage
    assert usage.details == {"web_search_requests": 0}


@pytest.mark.parametrize("streamed", [True, False])
def test_what_svg_cost(streamed: bool) -> None:
    """The tokens of SVG authoring are details beside those of the image."""
    svg = {"input_tokens": 5, "output_tokens": 700, "reasoning_tokens": 60, "total_tokens": 705, "model": "gpt"}
    body: dict[str, Any] = {"created": 1, "data": [], "usage": USAGE, "svg_usage": svg}
    event = {"type": "image_generation.completed", "b64_json": "x", "usage": USAGE, "svg_usage": svg}
    usage = both("images", wire(event) if streamed else json.dumps(body).encode())[0].usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (20, 9, None)
    assert usage.details == {"svg_input_tokens": 5, "svg_output_tokens": 700, "svg_reasoning_tokens": 60}
    assert usage.raw == USAGE


def test_what_svg_cost_within_a_response():
    """The images that a response generated have their SVG tokens in the output: those of all are one sum."""
    items = [{"type": "image_generation_call", "svg_usage": {"input_tokens": 5, "output_tokens": at}} for at in (7, 8)]
    output = [{"type": "message", "content": []}, *items, {"type": "image_generation_call", "svg_usage": None}]
    usage = both("responses", wire(ended("completed", usage=USAGE, output=output)))[0].usage
    assert (usage.output_tokens, usage.details) == (9, {"svg_input_tokens": 10, "svg_output_tokens": 15})


# -- the SDKs' response models

#: what the calls that are recorded return, and where in it usage is read from
READ: dict[Any, set[str]] = {
    ChatCompletion: {"usage"},
    ChatCompletionChunk: {"usage"},
    Completion: {"usage"},
    CreateEmbeddingResponse: {"usage"},
    Response: {"usage", "tool_usage", "output.svg_usage"},
    BetaResponse: {"usage", "tool_usage", "output.svg_usage"},
    CompactedResponse: {"usage", "output.svg_usage"},
    Decision: {"usage"},
    ImagesResponse: {"usage", "svg_usage"},
    ImageGenStreamEvent: {"usage"},
    ImageEditStreamEvent: {"usage"},
    Transcription: {"usage"},
    TranscriptionVerbose: {"usage"},
    TranscriptionStreamEvent: {"usage"},
    ModerationCreateResponse: set(),
    Message: {"usage"},
    RawMessageStreamEvent: {"usage", "message.usage"},
    BetaMessage: {"usage"},
    BetaRawMessageStreamEvent: {"usage", "message.usage"},
}
#: the input, repeated: what items of it cost was spent by the calls that made them
PARTS = {"instructions.svg_usage"}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of an annotation: in unions, ``Annotated``, lists and mappings."""
    if typing.get_origin(annotation) is typing.Annotated:
        yield from models_in(typing.get_args(annotation)[0])
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, list, dict, tuple):
        for part in typing.get_args(annotation):
            yield from models_in(part)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def usage_objects(annotation: Any, path: str = "", above: tuple[Any, ...] = ()) -> Iterator[str]:
    """Where a response model has something that is called usage, or has a model that is; not what is within it."""
    for model in models_in(annotation):
        if model in above:
            continue
        for name, field in model.model_fields.items():
            place = ".".join(filter(None, (path, field.alias or name)))
            if "usage" in name.lower() or any("usage" in one.__name__.lower() for one in models_in(field.annotation)):
                yield place
            else:
                yield from usage_objects(field.annotation, place, (*above, model))


@pytest.mark.parametrize("root", READ, ids=lambda root: getattr(root, "__name__", str(root))[:60])
def test_every_usage_object_of_a_response_is_read(root: Any) -> None:
    """An upgrade of an SDK that brings another usage object to a response fails here: read it, or say why not."""
    assert set(usage_objects(root)) - PARTS == READ[root]


def test_another_usage_object_would_be_noticed():
    """A usage object under another name, within a list or within a model, is found."""

    class SearchUsage(BaseModel):
        requests: int = 0

    class Item(BaseModel):
        spent: SearchUsage | None = None

    class Planted(Response):
        search_usage: dict[str, int] | None = None
        items: list[Item] | None = None

    assert set(usage_objects(Planted)) - PARTS - READ[Response] == {"search_usage", "items.spent"}


@pytest.mark.parametrize("name", ["tool_usage", "svg_usage"])
def test_every_count_beside_usage_is_known(name: str) -> None:
    """Each number of these objects has its place in ``KNOWN_COUNTS``."""
    owner: type[BaseModel] = Response if name == "tool_usage" else ImagesResponse

    def numbers(annotation: Any, path: str) -> Iterator[str]:
        if annotation is int or int in typing.get_args(annotation):
            yield path
        for model in models_in(annotation):
            for key, field in model.model_fields.items():
                yield from numbers(field.annotation, f"{path}.{key}")

    found = set(numbers(owner.model_fields[name].annotation, name))
    assert found
    assert found <= KNOWN_COUNTS.keys()
