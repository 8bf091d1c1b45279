"""Requests and responses of Google's APIs as messages of the GenAI conventions. Pure: JSON values in and out.

Contents and candidates have parts, each of which is told by the one member that it has; interactions have steps, told
by their type. What the conventions have no type for is kept as it is, under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from .wire.apis.gemini_reasons import content_reasons, interaction_reasons
from .wire.reply import JsonObject, obj, objects, string, text

__all__ = ["input_messages", "instructions", "output_messages", "tools", "vectors"]

Part = dict[str, Any]

_ROLES: Final = {"model": "assistant", "function": "tool"}
_MODALITIES: Final = ("image", "audio", "video")
_CAPITAL: Final = re.compile(r"(?<=[a-z])[A-Z]")
#: members of a part that say something about it and are not what it is
_BESIDE: Final = frozenset({"thought", "thoughtSignature", "thought_signature", "videoMetadata", "mediaResolution"})
_MEDIA: Final = frozenset({"image", "audio", "video", "document"})
#: what an interaction's input may be a list of, beside steps
_CONTENTS: Final = _MEDIA | {"text"}
#: the steps that no other API's input has items of
_STEPS: Final = frozenset({"user_input", "model_output", "thought", "function_result"})
#: what a tool of another API has
_OTHERS_NAMES: Final = frozenset({"type", "name", "function"})


def instructions(request: JsonObject) -> list[Part]:
    """The parts of the system instruction: texts, and whatever else it has."""
    return [*_contents(request.get("systemInstruction", request.get("system_instruction")))]


def input_messages(request: JsonObject) -> list[JsonObject]:
    """The messages of a request; none if it is in none of the shapes of these APIs."""
    if "contents" in request:
        contents = request["contents"]
        return [*map(_message, objects(contents if isinstance(contents, list) else [contents]))]
    steps = request.get("input")
    steps = objects(steps if isinstance(steps, list) else [steps])
    if any(_is_step(step) for step in steps):
        return [*map(_step_message, steps)]
    return [{"role": "user", "parts": [*_contents(content)]} for content in _embedded(request)]


def _embedded(request: JsonObject) -> Iterator[Any]:
    """What a request asks vectors for, or the prompts of images."""
    if isinstance(request.get("content"), dict):
        yield request["content"]
    for key in ("requests", "instances"):
        yield from (item.get("content", item.get("prompt")) for item in objects(request.get(key)))


def output_messages(response: JsonObject) -> list[JsonObject]:
    """The messages of a response, one for each candidate; none if it is in none of the shapes of these APIs."""
    candidates = objects(response.get("candidates"))
    if candidates:
        reasons = content_reasons(response)
        return [
            _message(obj(candidate.get("content")), "model") | {"finish_reason": reason}
            for candidate, reason in zip(candidates, reasons, strict=True)
        ]
    steps = [step for step in objects(response.get("steps")) if step.get("type") != "user_input"]
    parts = [part for step in steps for part in _step_parts(step)]
    reason = next(iter(interaction_reasons(response)), "error")
    return [{"role": "assistant", "parts": parts, "finish_reason": reason}] if parts else []


def tools(request: JsonObject) -> list[JsonObject]:
    """The definitions of tools: declared functions, and the provider's own by their names; none in other shapes."""
    definitions: list[JsonObject] = []
    for tool in objects(request.get("tools")):
        if _OTHERS_NAMES.isdisjoint(tool):
            functions = objects(_member(tool, "functionDeclarations"))
            definitions += map(_function, functions)
            own = (key for key in tool if _snake(key) != "function_declarations")
            definitions += ({"type": _snake(key), "name": _snake(key)} for key in own)
    return definitions


def _function(declaration: JsonObject) -> JsonObject:
    schemas = (_member(declaration, key) for key in ("parameters", "parametersJsonSchema"))
    described = {
        "description": string(declaration.get("description")),
        "parameters": next((schema for schema in schemas if isinstance(schema, dict)), None),
    }
    return {"type": "function", "name": text(declaration.get("name")) or "?"} | _without_none(described)


def vectors(response: JsonObject) -> list[Any]:
    """The vectors of a response that has embeddings."""
    predictions = (obj(item.get("embeddings")) for item in objects(response.get("predictions")))
    embeddings = [*objects([response.get("embedding")]), *objects(response.get("embeddings")), *predictions]
    return [embedding["values"] for embedding in embeddings if "values" in embedding]


# -- contents and their parts


def _message(content: JsonObject, role: str = "user") -> JsonObject:
    role = text(content.get("role")) or role
    value = content.get("parts")
    groups = [[*_part(part)] for part in objects(value if isinstance(value, list) else [value])]
    groups = [group for group in groups if group]
    if groups and all(group[0]["type"] == "tool_call_response" for group in groups):
        role = "tool"
    return {"role": _ROLES.get(role, role), "parts": [part for group in groups for part in group]}


def _contents(value: Any) -> Iterator[Part]:
    """The parts of a content, a text, a part, or a list of any of them."""
    if isinstance(value, str):
        if value:
            yield {"type": "text", "content": value}
    elif isinstance(value, list):
        for item in value:
            yield from _contents(item)
    elif isinstance(value, dict):
        content = obj(value)
        yield from _parts(content.get("parts", [content]))


def _parts(value: Any) -> Iterator[Part]:
    for part in objects(value if isinstance(value, list) else [value]):
        yield from _part(part)


def _part(part: JsonObject) -> Iterator[Part]:
    """One part, none where there is nothing but a signature or an empty text, or an answer and the media in it."""
    if isinstance(part.get("text"), str):
        if part["text"]:
            yield {"type": "reasoning" if part.get("thought") else "text", "content": part["text"]}
        return
    key = next((key for key in part if key not in _BESIDE), None)
    if key is None:
        return
    kind, value = _snake(key), obj(part[key])
    if kind == "function_call":
        yield {"type": "tool_call", "id": value.get("id"), "name": value.get("name"), "arguments": value.get("args")}
    elif kind == "function_response":
        yield from _answer(value)
    elif kind in ("inline_data", "file_data"):
        yield _media(value)
    elif kind in ("executable_code", "tool_call"):
        yield _server_call(_tool_name(kind, value), value)
    elif kind in ("code_execution_result", "tool_response"):
        yield _server_result(_tool_name(kind, value), value)
    else:
        yield {"type": kind, kind: part[key]}


def _answer(value: JsonObject) -> Iterator[Part]:
    """The answer of a function, with its name where the id is not that, and the images and files that it has."""
    call, name = value.get("id") or value.get("name"), value.get("name") if value.get("id") else None
    answer = {"type": "tool_call_response", "id": call, "response": value.get("response")}
    yield answer | _without_none({"name": name})
    yield from _parts(value.get("parts"))


def _tool_name(kind: str, value: JsonObject) -> str:
    is_code = kind in ("executable_code", "code_execution_result")
    return "code_execution" if is_code else (text(_member(value, "toolType")) or kind).lower()


def _media(value: JsonObject) -> Part:
    """Data or a file, with what it is."""
    mime_type = text(_member(value, "mimeType"))
    head = (mime_type or "").partition("/")[0]
    described = {"modality": head if head in _MODALITIES else "document"} | _without_none({"mime_type": mime_type})
    uri = _member(value, "fileUri") or value.get("uri")
    if isinstance(uri, str):
        return {"type": "uri", **described, "uri": uri}
    return {"type": "blob", **described, "content": value.get("data")}


def _server_call(name: str, value: JsonObject) -> Part:
    about = {key: member for key, member in value.items() if key not in ("id", "type", "signature")}
    return {"type": "server_tool_call", "id": value.get("id"), "name": name,
            "server_tool_call": {"type": name, **about}}  # fmt: skip


def _server_result(name: str, value: JsonObject) -> Part:
    about = {key: member for key, member in value.items() if key not in ("id", "call_id", "type", "signature")}
    return {"type": "server_tool_call_response", "id": value.get("id") or value.get("call_id"),
            "server_tool_call_response": {"type": name, **about}}  # fmt: skip


# -- steps of interactions


def _is_step(item: JsonObject) -> bool:
    return item.get("type") in _STEPS or item.get("type") in _CONTENTS


def _step_message(step: JsonObject) -> JsonObject:
    kind = step.get("type")
    is_input = kind == "user_input" or kind in _CONTENTS
    return {
        "role": "user" if is_input else "tool" if kind == "function_result" else "assistant",
        "parts": [*_step_parts(step)],
    }


def _step_parts(step: JsonObject) -> Iterator[Part]:
    kind = str(step.get("type"))
    if kind in ("user_input", "model_output"):
        content = step.get("content")
        for item in [content] if isinstance(content, str) else content if isinstance(content, list) else []:
            yield from _contents(item) if isinstance(item, str) else map(_content, objects([item]))
    elif kind in _CONTENTS:
        yield _content(step)
    elif kind == "thought":
        words = "\n".join(filter(None, (text(item.get("text")) for item in objects(step.get("summary")))))
        yield from [{"type": "reasoning", "content": words}] if words else []
    elif kind == "function_call":
        arguments = step.get("arguments")
        yield {"type": "tool_call", "id": step.get("id"), "name": step.get("name"), "arguments": arguments}
    elif kind == "function_result":
        yield {"type": "tool_call_response", "id": step.get("call_id"), "response": step.get("result")}
    elif kind.endswith("_call"):
        yield _server_call(text(step.get("name")) or kind.removesuffix("_call"), step)
    elif kind.endswith("_result"):
        yield _server_result(kind.removesuffix("_result"), step)
    else:
        yield {**step, "type": kind}


def _content(item: JsonObject) -> Part:
    """A text, an image, a sound, a video or a document of a step."""
    kind = item.get("type")
    if kind == "text":
        return {"type": "text", "content": string(item.get("text")) or ""}
    if kind in _MEDIA:
        return _media(item) | {"modality": kind}
    return {**item, "type": str(kind)}


# -- names


def _member(value: JsonObject, name: str) -> Any:
    """A member by its name, which requests may also spell as Python does."""
    return value.get(name, value.get(_snake(name)))


def _snake(name: str) -> str:
    return _CAPITAL.sub(lambda match: f"_{match[0].lower()}", name)


def _without_none(values: JsonObject) -> JsonObject:
    return {key: value for key, value in values.items() if value is not None}
