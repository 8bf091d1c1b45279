"""The numbers of the SDKs' own usage models: an upgrade that brings one that is not known fails here."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic.types import MessageDeltaUsage
from anthropic.types import Usage as MessageUsage
from anthropic.types.beta import BetaMessageDeltaUsage, BetaUsage
from openai.types import CompletionUsage
from openai.types.audio.transcription import UsageTokens as TranscriptionUsage
from openai.types.audio.transcription_text_done_event import Usage as TranscriptionDoneUsage
from openai.types.create_embedding_response import Usage as EmbeddingUsage
from openai.types.decision import Usage as DecisionUsage
from openai.types.image_edit_completed_event import Usage as ImageEditUsage
from openai.types.image_gen_completed_event import Usage as ImageGenUsage
from openai.types.images_response import Usage as ImagesUsage
from openai.types.responses import ResponseUsage
from pydantic import BaseModel

from llmspan.usage import KNOWN_COUNTS

MODELS = [
    CompletionUsage, ResponseUsage, EmbeddingUsage, MessageUsage, MessageDeltaUsage, BetaUsage, BetaMessageDeltaUsage,
    ImagesUsage, ImageGenUsage, ImageEditUsage, DecisionUsage, TranscriptionUsage, TranscriptionDoneUsage,
]  # fmt: skip


def integer_paths(annotation: Any, path: str = "") -> Iterator[str]:
    """Where an annotation holds numbers: in models, unions, ``Annotated``, lists (``[]``) and mappings (``{}``)."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from integer_paths(inner[0], path)
    elif origin in (typing.Union, types.UnionType):
        for part in inner:
            yield from integer_paths(part, path)
    elif origin in (list, tuple, set):
        for part in inner:
            yield from integer_paths(part, f"{path}[]")
    elif origin is dict:
        yield from integer_paths(inner[1], f"{path}{{}}")
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from integer_paths(field.annotation, ".".join(filter(None, (path, field.alias or name))))
    elif isinstance(annotation, type) and issubclass(annotation, int | float) and annotation is not bool:
        yield path


def unknown_counts(model: type[BaseModel]) -> set[str]:
    return set(integer_paths(model)) - KNOWN_COUNTS.keys()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_every_count_of_the_sdks_is_known(model):
    """The installed SDK's usage model has no number that we do not know: an upgrade that brings one fails here."""
    assert unknown_counts(model) == set()
    assert {"input_tokens", "prompt_tokens"} & set(integer_paths(model))


@pytest.mark.parametrize("name", [
    "GenerateContentResponseUsageMetadata", "UsageMetadata", "CachedContentUsageMetadata", "gaos"
])  # fmt: skip
def test_every_count_of_googles_sdk_is_known(name):
    """The same of Google's, whose lists have an item for each modality."""
    google = pytest.importorskip("google.genai.types")
    if name == "gaos":
        model = pytest.importorskip("google.genai._gaos.types.interactions.usage").Usage
    else:
        model = getattr(google, name)
    paths = set(integer_paths(model))
    assert paths
    assert paths <= {re.sub(r"\[\w*\]", "[]", path) for path in KNOWN_COUNTS}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_a_new_count_would_be_noticed(model):
    """A number planted in a model (flat, nested, in a list, in an arm of a union, in a mapping) is found as unknown."""

    class Plant(BaseModel):
        seed_tokens: int | None = None
        unit: str = ""
        paid: bool = True

    class OtherPlant(BaseModel):
        seed_tokens: typing.Optional[float] = None  # noqa: UP045 - the SDKs write it so

    class Planted(model):  # type: ignore[misc, valid-type]
        flat_tokens: int = 0
        nested: Plant | None = None
        listed: typing.Optional[typing.List[Plant | OtherPlant]] = None  # noqa: UP006, UP045
        mapped: dict[str, int] | None = None
        marked: typing.Annotated[str | int, "note"] = 0
        told: str = ""

    assert unknown_counts(Planted) == {
        "flat_tokens", "nested.seed_tokens", "listed[].seed_tokens", "mapped{}", "marked",
    }  # fmt: skip


def test_the_walker_sees_lists_in_models():
    """The numbers of Anthropic's iterations, three models deep behind a union in a list, are among those checked."""
    assert "iterations[].cache_creation.ephemeral_1h_input_tokens" in set(integer_paths(BetaUsage))
