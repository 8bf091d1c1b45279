"""Provider-native requests and responses as messages of the GenAI conventions. Pure: JSON values in and out.

The conventions' schemas: ``gen-ai-input-messages.json``, ``-output-messages.json``, ``-system-instructions.json`` and
``-tool-definitions.json`` of open-telemetry/semantic-conventions-genai. A part that they have no type for is kept as
it is, under its own type, which the schemas allow (with ``_part`` behind it where they mean something else by that
type): nothing is left out silently.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from . import gemini_messages
from .wire.finish_reasons import normalized, response_reason
from .wire.reply import JsonObject, obj, objects, string, text

__all__ = ["INPUT", "INSTRUCTIONS", "OUTPUT", "TOOLS", "content_attributes", "is_compacted"]

INPUT: Final = "gen_ai.input.messages"
OUTPUT: Final = "gen_ai.output.messages"
INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOLS: Final = "gen_ai.tool.definitions"

Part = dict[str, Any]

_TEXTS: Final = frozenset({"text", "input_text", "output_text"})
_FILES: Final = frozenset({"file", "input_file", "document", "document_url", "container_upload"})
#: the schemas' own types that providers use, too, and what a part of each must have there
_REQUIRED: Final = {
    "tool_call": ("name",),
    "tool_call_response": ("response",),
    "server_tool_call": ("name", "server_tool_call"),
    "server_tool_call_response": ("server_tool_call_response",),
    "blob": ("modality", "content"),
    "file": ("modality", "file_id"),
    "uri": ("modality", "uri"),
}
_MODALITY: Final = {"image": "image", "audio": "audio", "video": "video"}
#: OpenAI's audio formats
_AUDIO: Final = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac", "opus": "audio/opus"}
_ROLES: Final = {"function": "tool"}


def content_attributes(request: Any, response: Any) -> dict[str, Any]:
    """The conventions' content attributes, structured, of a request and a response as JSON values.

    Their shape decides: that of chat completions, Responses, messages or completions, or of Google's APIs; what is in
    none of these shapes has no attributes.
    """
    request_body, response_body = obj(request), obj(response)
    instructions = [*_instructions(request_body.get("system")), *_instructions(request_body.get("instructions"))]
    attributes = {
        INSTRUCTIONS: [*instructions, *gemini_messages.instructions(request_body)],
        INPUT: gemini_messages.input_messages(request_body) or [*_input(request_body)],
        TOOLS: gemini_messages.tools(request_body) or [*_tools(request_body)],
        OUTPUT: gemini_messages.output_messages(response_body) or [*_output(response_body)],
    }
    return {name: value for name, value in attributes.items() if value}


def is_compacted(request: Any) -> bool:
    """Whether a request hands over a conversation that was compacted earlier."""
    request_body = obj(request)
    items = [*objects(request_body.get("input")), *objects(request_body.get("messages"))]
    parts = (part for item in items for part in (item, *objects(item.get("content"))))
    return any(part.get("type") == "compaction" for part in parts)


# -- requests ---------------------------------------------------------------------------------------------------------


def _instructions(value: Any) -> Iterator[Part]:
    """Text parts only: the conventions know no others here."""
    if isinstance(value, str) and value:
        yield {"type": "text", "content": value}
    for part in objects(value):
        if isinstance(part.get("text"), str):
            yield {"type": "text", "content": part["text"]}


def _input(request: JsonObject) -> Iterator[JsonObject]:
    yield from (_message(message, "user") for message in objects(request.get("messages")))
    items = request.get("input", request.get("prompt"))
    for item in [items] if isinstance(items, str) else items if isinstance(items, list) else []:
        if isinstance(item, str):
            yield {"role": "user", "parts": [{"type": "text", "content": item}]}
        elif isinstance(item, dict):
            message = _item(obj(item), "user")
            if not all(map(_is_hidden, message["parts"])) or not message["parts"]:
                yield message


def _tools(request: JsonObject) -> Iterator[JsonObject]:
    for tool in (*objects(request.get("tools")), *objects(request.get("functions"))):
        yield _tool(tool)
        if tool.get("type") == "namespace":
            yield from map(_tool, objects(tool.get("tools")))


def _tool(tool: JsonObject) -> JsonObject:
    """A tool's type, name, description and parameters; of what configures it otherwise, the record has all.

    Chat completions put a function one level down, and gateways do so without a type. Servers and toolsets are named
    by other members than tools; where there is no name, the type stands for it.
    """
    kind = string(tool.get("type")) or None
    function = obj(tool.get(kind or "function")) or obj(tool.get("function")) or tool
    names = (text(function.get(key)) for key in ("name", "server_label", "mcp_server_name"))
    schemas = (function.get(key) for key in ("parameters", "input_schema"))
    is_function = kind in (None, "function") or (kind == "custom" and "input_schema" in function)
    described = {
        "description": string(function.get("description", function.get("server_description"))),
        "parameters": next((schema for schema in schemas if isinstance(schema, dict)), None),
    }
    return {
        "type": "function" if is_function else kind,
        "name": next(filter(None, names), kind or "?"),
    } | _without_none(described)


# -- responses --------------------------------------------------------------------------------------------------------


def _output(response: JsonObject) -> Iterator[JsonObject]:
    for choice in objects(response.get("choices")):
        message = choice.get("message")
        output_messages = (
            _message(obj(message), "assistant")
            if isinstance(message, dict)
            else {"role": "assistant", "parts": [*_parts(choice.get("text"))]}
        )
        yield output_messages | _reason(choice.get("finish_reason"))
    if isinstance(response.get("output"), list):
        items = [_item(item, "assistant") for item in objects(response["output"])]
        parts = [part for item in items for part in item["parts"] if not _is_hidden(part)]
        if parts:
            yield {"role": "assistant", "parts": parts} | _reason(response_reason(response))
    elif isinstance(response.get("content"), list):
        yield {"role": str(response.get("role") or "assistant"), "parts": [*_parts(response["content"])]} | _reason(
            response.get("stop_reason")
        )


def _reason(reason: Any) -> Part:
    """A message's finish reason; ``error`` if none came, as when a stream breaks off.

    Later conventions make the member optional, but readers built on earlier ones refuse the whole list without it.
    """
    return {"finish_reason": next(iter(normalized((string(reason),))), "error")}


# -- messages and parts -----------------------------------------------------------------------------------------------


def _message(message: JsonObject, role: str) -> JsonObject:
    """A message of chat completions or of the messages API, in or out."""
    role = str(message.get("role") or role)
    role = _ROLES.get(role, role)
    if role == "tool":
        answer = message.get("content")
        call = message.get("tool_call_id") or message.get("name")
        return {"role": role, "parts": [{"type": "tool_call_response", "id": call, "response": _plain(answer)}]}
    parts: list[Part] = [{"type": "reasoning", "content": thought} for thought in _thoughts(message)]
    parts += _parts(message.get("content"))
    parts += _parts(message.get("refusal"))
    parts += _parts(message.get("images"))
    parts += [_call(call) for call in objects(message.get("tool_calls"))]
    parts += [_call({"function": call}) for call in objects([message.get("function_call")])]
    parts += _spoken(obj(message.get("audio")))
    return {"role": role, "parts": parts} | _without_none({"name": string(message.get("name"))})


def _thoughts(message: JsonObject) -> list[str]:
    """The reasoning beside a message's content. Gateways repeat it under several keys; encrypted details show none."""
    texts = dict.fromkeys(_words(message.get(key)) for key in ("reasoning_content", "reasoning"))
    thoughts = [thought for thought in texts if thought]
    return thoughts or list(filter(None, [_words(message.get("reasoning_details"))]))


def _spoken(audio: JsonObject) -> Iterator[Part]:
    """What a model said aloud; in a later request only its id."""
    if isinstance(audio.get("data"), str | dict):
        yield _blob("audio", None, audio["data"]) | _without_none({"transcript": audio.get("transcript")})
    elif isinstance(audio.get("id"), str):
        yield {"type": "file", "modality": "audio", "file_id": audio["id"]}


def _item(item: JsonObject, role: str) -> JsonObject:
    """An item of the Responses API: a message, or something that stands for one part."""
    kind = item.get("type")
    if kind in (None, "message"):
        return _message(item, role)
    part = _item_part(str(kind), item)
    is_answer = part["type"] == "tool_call_response"
    return {"role": "tool" if is_answer else "assistant" if role == "assistant" or _is_said(part) else role,
            "parts": [part]}  # fmt: skip


def _is_said(part: Part) -> bool:
    return part["type"] in ("tool_call", "server_tool_call", "reasoning", "compaction")


def _is_hidden(part: Part) -> bool:
    """Reasoning of which the provider shows nothing."""
    return part == {"type": "reasoning", "content": ""}


def _item_part(kind: str, item: JsonObject) -> Part:
    if kind in ("function_call", "custom_tool_call"):
        arguments = item.get("arguments", item.get("input"))
        return {"type": "tool_call", "id": item.get("call_id") or item.get("id"), "name": item.get("name"),
                "arguments": _parsed(arguments)}  # fmt: skip
    if kind.endswith("_call_output"):
        return {"type": "tool_call_response", "id": item.get("call_id"), "response": _plain(item.get("output"))}
    if kind == "reasoning":
        text_parts = [*objects(item.get("summary")), *objects(item.get("content"))]
        return {"type": "reasoning", "content": _words(text_parts, "\n")}
    if kind.endswith("_call"):
        return _server_call(kind.removesuffix("_call"), item)
    return _part(item)


def _compaction(part: JsonObject) -> Part:
    """A compacted conversation: its summary where the provider shows one (Anthropic), never what is encrypted."""
    return {"type": "compaction"} | _without_none(
        {"id": string(part.get("id")), "content": string(part.get("content"))}
    )


def _server_call(name: str, item: JsonObject) -> Part:
    """A call of a tool that the provider runs: what it did is in the call itself."""
    about = {key: value for key, value in item.items() if key not in ("id", "name", "type")}
    return {"type": "server_tool_call", "id": item.get("id"), "name": item.get("name") or name,
            "server_tool_call": {"type": name, **about}}  # fmt: skip


def _parts(content: Any) -> Iterator[Part]:
    if isinstance(content, str):
        if content:
            yield {"type": "text", "content": content}
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield {"type": "text", "content": part}
            elif isinstance(part, dict):
                part_attributes = _part(obj(part))
                if not _is_hidden(part_attributes):
                    yield part_attributes


def _words(value: Any, between: str = "") -> str:
    """The text in a value that may be a text, a part that has one, or a list of such parts (Mistral's thinking)."""
    if isinstance(value, list):
        return between.join(filter(None, map(_words, value)))
    if isinstance(value, dict):
        return next(filter(None, (_words(value.get(key)) for key in ("text", "summary", "content"))), "")
    return value if isinstance(value, str) else ""


def _part(part: JsonObject) -> Part:
    kind = str(part.get("type") or "text")
    if kind in _TEXTS:
        return {"type": "text", "content": _words(part)}
    if kind == "refusal":
        return {"type": "text", "content": _words(part.get("refusal"))}
    if kind in ("thinking", "redacted_thinking", "reasoning"):  # redacted: its data is encrypted, nothing to read
        return {"type": "reasoning", "content": _words(part.get("thinking")) or _words(part)}
    if kind == "compaction":
        return _compaction(part)
    if kind == "tool_use":
        return {"type": "tool_call", "id": part.get("id"), "name": part.get("name"), "arguments": part.get("input")}
    if kind == "tool_result":
        return {"type": "tool_call_response", "id": part.get("tool_use_id"), "response": _plain(part.get("content"))}
    if kind.endswith("_tool_use"):
        return _server_call(str(part.get("name") or kind), part)
    if kind.endswith("_tool_result"):
        return {"type": "server_tool_call_response", "id": part.get("tool_use_id"),
                "server_tool_call_response": {"type": kind.removesuffix("_tool_result"),
                                              "content": part.get("content")}}  # fmt: skip
    other = _media(kind, part) or {**part, "type": kind}
    if all(member in other for member in _REQUIRED.get(str(other["type"]), ())):
        return other
    return {**other, "type": f"{kind}_part"}


def _media(kind: str, part: JsonObject) -> Part | None:
    """Images, sounds and files, wherever the API puts what they are: inline, by URL or by id."""
    modality = next((name for mark, name in _MODALITY.items() if mark in kind), None)
    if modality is None and kind not in _FILES:
        return None
    modality = modality or "document"
    inline = part.get(kind)
    if isinstance(inline, str) and not inline.startswith(("http:", "https:")):  # mistral: the data itself
        return _blob(modality, None, inline)
    source = obj(part.get("source")) or obj(inline) or part
    url = source.get("url") or source.get("file_url") or source.get("image_url") or inline
    data = source.get("data") or source.get("file_data")
    if isinstance(url, str) and not url.startswith("data:"):
        return {"type": "uri", "modality": modality, "uri": url}
    if isinstance(source.get("file_id"), str):
        return {"type": "file", "modality": modality, "file_id": source["file_id"]}
    if data is None and url is None:
        return None
    if source.get("type") == "text" and isinstance(data, str):  # anthropic: a document that is plain text
        data = base64.b64encode(data.encode("utf-8", "replace")).decode()
    mime_type = source.get("media_type") or _AUDIO.get(str(source.get("format")))
    return _blob(modality, mime_type, url if data is None else data)


def _blob(modality: str, mime_type: Any, data: Any) -> Part:
    """Inline data; an object instead of base64 is what the content policy left of it, and says its own type."""
    if isinstance(data, dict):
        return {"type": "blob", "modality": modality, "mime_type": obj(data).get("type"), "content": data}
    head, comma, content = str(data).partition(",")
    if comma and head.startswith("data:"):
        return {"type": "blob", "modality": modality, "mime_type": head[5:].partition(";")[0], "content": content}
    return {"type": "blob", "modality": modality, "mime_type": mime_type, "content": data}


def _call(call: JsonObject) -> Part:
    function = obj(call.get("function")) or obj(call.get("custom")) or call
    arguments = function.get("arguments", function.get("input"))
    return {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": _parsed(arguments)}


def _plain(content: Any) -> Any:
    """A tool's answer: its text if it is nothing but one text."""
    parts = objects(content)
    if len(parts) == 1 and parts == content and parts[0].get("type") in _TEXTS:
        return parts[0].get("text")
    return content


def _parsed(arguments: Any) -> Any:
    """Arguments as the value that their JSON text stands for; as they are if it is none (a stream broke off)."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _without_none(values: JsonObject) -> JsonObject:
    return {key: value for key, value in values.items() if value is not None}
