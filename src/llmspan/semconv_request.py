"""The GenAI conventions' attributes of a request: its parameters, as the caller gave them.

Looks at scalars only and iterates no value but lists and tuples: a request may hold generators, which are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["OPENAI", "request_attributes"]

#: request parameter -> (attribute, type it must have to be recorded, type it is recorded as)
_PARAMETERS: Final[dict[str, tuple[str, type | tuple[type, ...], type | None]]] = {
    "temperature": ("gen_ai.request.temperature", (int, float), float),
    "top_p": ("gen_ai.request.top_p", (int, float), float),
    "top_k": ("gen_ai.request.top_k", int, None),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", (int, float), float),
    "presence_penalty": ("gen_ai.request.presence_penalty", (int, float), float),
    "seed": ("gen_ai.request.seed", int, None),
    "max_tokens": ("gen_ai.request.max_tokens", int, None),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int, None),
    "max_output_tokens": ("gen_ai.request.max_tokens", int, None),
    "previous_response_id": ("gen_ai.request.previous_response.id", str, None),
    "reasoning_effort": ("gen_ai.request.reasoning.level", str, None),
    "max_tokens_to_sample": ("gen_ai.request.max_tokens", int, None),
    "dimensions": ("gen_ai.embeddings.dimension.count", int, None),
    # Google's, within the objects that _CONFIGURATIONS names
    "topP": ("gen_ai.request.top_p", (int, float), float),
    "topK": ("gen_ai.request.top_k", (int, float), int),
    "frequencyPenalty": ("gen_ai.request.frequency_penalty", (int, float), float),
    "presencePenalty": ("gen_ai.request.presence_penalty", (int, float), float),
    "maxOutputTokens": ("gen_ai.request.max_tokens", int, None),
    "thinking_level": ("gen_ai.request.reasoning.level", str, None),
    "previous_interaction_id": ("gen_ai.request.previous_response.id", str, None),
    "outputDimensionality": ("gen_ai.embeddings.dimension.count", int, None),
}
#: APIs with parameters that are not at the top of the request -> the object, or the list of objects, that has them
_CONFIGURATIONS: Final = {
    "batch_embed_contents": "requests",
    "generate_content": "generationConfig",
    "imagen_predict": "parameters",
    "interactions": "generation_config",
    "predict": "parameters",
}
#: where a request names what the output is to be
_MODALITY_KEYS: Final = ("modalities", "responseModalities", "response_modalities")
#: providers whose spans, metrics and events carry ``openai.*`` attributes: the provider's name says which vendor's
#: attributes are to be expected, so others that speak the same API get none
OPENAI: Final = frozenset({"openai", "azure.ai.openai"})
_OUTPUT_TYPES: Final = {
    "text": "text", "json_object": "json", "json_schema": "json",
    "text/plain": "text", "text/x.enum": "text", "application/json": "json",
}  # fmt: skip
#: what OpenAI and gateways call a modality of the output -> the output type
_MODALITIES: Final = {"audio": "speech", "image": "image"}
#: old name -> the name that counts if both are given
_REPLACED: Final = {"max_tokens": "max_completion_tokens", "stop": "stop_sequences", "text": "response_format"}
#: what an API is asked for, where that is not the request's to say
_OUTPUT_OF: Final = {
    "imagen_predict": "image",
    "images": "image",
    "speech": "speech",
    "transcriptions": "text",
    "translations": "text",
}
#: which of OpenAI's two an API is of
_API_TYPES: Final = {
    "chat_completions": "chat_completions",
    "responses": "responses",
    "responses_compact": "responses",
}


def request_attributes(provider: str, api: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of the request's parameters, as the caller gave them. Looks at scalars only and iterates no value."""
    attributes = _openai_request_attributes(api, body) if provider in OPENAI else {}
    if api in _OUTPUT_OF:
        attributes["gen_ai.output.type"] = _OUTPUT_OF[api]
    if api in _CONFIGURATIONS:
        body = _with_configuration(body, _CONFIGURATIONS[api])
    for key in filter(_NAMES.__contains__, body):
        value = body[key]
        if key in _REPLACED and body.get(_REPLACED[key]) is not None:
            continue
        if key in _PARAMETERS:
            name, types, convert = _PARAMETERS[key]
            if isinstance(value, types) and not isinstance(value, bool):
                attributes[name] = value if convert is None else convert(value)
        elif isinstance(value, _SHAPES):  # and not the SDK's mark for what is not given
            attributes |= _SHAPED_PARAMETERS[key](value, api)
    for key in _MODALITY_KEYS:
        modality = _modality(body[key]) if isinstance(body.get(key), list | tuple) else None
        if modality is not None:
            attributes["gen_ai.output.type"] = modality
            break
    return attributes


def _with_configuration(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """``body`` with the parameters that its member ``name`` has; of several requests, those of the first."""
    inner = body.get(name)
    inner = inner[0] if isinstance(inner, list) and inner else inner
    return {**body, **inner} if isinstance(inner, Mapping) else body


def _modality(modalities: Sequence[object]) -> str | None:
    """The output type of a call that asks for several modalities: that of the one beside text."""
    kinds = [kind.lower() for kind in modalities if isinstance(kind, str)]
    return next((_MODALITIES[kind] for kind in kinds if kind in _MODALITIES), None)


def _reasoning(value: object, _: str) -> dict[str, Any]:
    level = _get(value, "effort")
    return {"gen_ai.request.reasoning.level": level} if isinstance(level, str) else {}


def _output_config(value: object, api: str) -> dict[str, Any]:
    """Anthropic's effort and format, in one parameter."""
    return _reasoning(value, api) | _output(_get(_get(value, "format"), "type"))


def _prompt(value: object, _: str) -> dict[str, Any]:
    """A prompt template of the Responses API; for other APIs, a prompt is text."""
    name, version = _get(value, "id"), _get(value, "version")
    if not isinstance(name, str):
        return {}
    attributes = {"gen_ai.prompt.name": name}
    return attributes | {"gen_ai.prompt.version": version} if isinstance(version, str) else attributes


def _stop(value: object, _: str) -> dict[str, Any]:
    words = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    has_stop = bool(words) or value in ([], ())
    return {"gen_ai.request.stop_sequences": words} if has_stop and all(isinstance(w, str) for w in words) else {}


def _choices(value: object, _: str) -> dict[str, Any]:
    is_known = isinstance(value, int) and not isinstance(value, bool) and value != 1
    return {"gen_ai.request.choice.count": value} if is_known else {}


def _encoding(value: object, api: str) -> dict[str, Any]:
    is_known = isinstance(value, str) and api == "embeddings"
    return {"gen_ai.request.encoding_formats": (value,)} if is_known else {}


def _openai_request_attributes(api: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if api not in _API_TYPES:
        return {}
    attributes: dict[str, Any] = {"openai.api.type": _API_TYPES[api]}
    tier = body.get("service_tier")
    if isinstance(tier, str) and tier != "auto":
        attributes["openai.request.service_tier"] = tier
    return attributes


def _output(kind: object) -> dict[str, Any]:
    return {"gen_ai.output.type": _OUTPUT_TYPES[kind]} if isinstance(kind, str) and kind in _OUTPUT_TYPES else {}


#: request parameter -> its attributes, for those that are more than a scalar
_SHAPED_PARAMETERS: Final[dict[str, Callable[[Any, str], dict[str, Any]]]] = {
    "reasoning": _reasoning,
    "output_config": _output_config,
    "output_format": lambda value, _: _output(_get(value, "type")),
    "prompt": _prompt,
    "stop": _stop,
    "stop_sequences": _stop,
    "stopSequences": _stop,
    "n": _choices,
    "candidateCount": _choices,
    "sampleCount": _choices,
    "responseMimeType": lambda value, _: _output(value),
    "response_mime_type": lambda value, _: _output(value),
    "thinkingConfig": lambda value, api: _reasoning({"effort": _get(value, "thinkingLevel")}, api),
    "encoding_format": _encoding,
    "response_format": lambda value, _: _output(_get(value, "mime_type") or _get(value, "type")),
    "text": lambda value, _: _output(_get(_get(value, "format"), "type")),
}
#: the parameters that have attributes
_NAMES: Final = _PARAMETERS.keys() | _SHAPED_PARAMETERS.keys()
#: what the values of those that are more than a scalar are
_SHAPES: Final = (dict, str, list, tuple, int, Mapping)


def _get(value: object, key: str) -> Any:
    return None if value is None else value.get(key) if isinstance(value, Mapping) else None
