"""A request and its response, as the turns of a conversation. Pure; no terminal, no SDK.

The shapes of chat completions, Responses, messages and completions are near enough to be read by one reader: a turn is
text, thinking, a call, a result or a note, whatever the keys are called. What is in none of these shapes becomes a
note with its JSON: nothing is left out silently and nothing is raised.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from . import gemini_messages, gemini_notes
from .conversation_sources import cited_sources
from .media import Media, media_of
from .wire.reply import JsonObject, obj, objects

__all__ = ["Turn", "request_turns", "response_turns"]

Kind = Literal["text", "thinking", "call", "result", "tool", "note"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that one side said. ``label``: the name of the tool, or what a note is about.

    ``kind``: a ``tool`` is the definition of one, a ``call`` and a ``result`` are about its use, and have the same
    ``call_id`` where the API gives them one.
    """

    role: str
    kind: Kind
    text: str
    label: str = ""
    call_id: str = field(default="", compare=False)
    #: what a note is about, if that is an image, a sound or a file
    media: Media | None = field(default=None, compare=False, repr=False)


_TEXT: Final = frozenset({"text", "input_text", "output_text", "refusal"})
_THINKING: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_text", "summary_text"})
_ROLES: Final = {"developer": "system", "function": "tool"}
#: who is the author of an item or part without a role; a request repeats what the model and its tools said before
_AUTHORS: Final = {
    "additional_tools": "system",
    "compaction": "assistant",
    "fallback": "assistant",
    "mcp_approval_request": "assistant",
    "mcp_list_tools": "tool",
    "mcp_tool_listing": "tool",
    "output_text": "assistant",
    "program": "assistant",
    "refusal": "assistant",
}
_RESULT_ENDINGS: Final = ("_result", "_output", "_response")
#: kinds that end as the results of tools do, but are the user's: documents to search in, permission to call
_NO_RESULTS: Final = frozenset({"mcp_approval_response", "search_result"})
#: the keys under which a part may carry its words, the most telling first
_WORDS: Final = ("text", "thinking", "refusal", "reasoning", "content", "summary")
#: the keys under which a call may carry its arguments
_ARGUMENTS: Final = ("arguments", "args", "input", "action", "actions", "code")
#: the keys under which a result may carry what the tool said
_RESULTS: Final = ("output", "content", "response", "result")
#: what a call or result is, as opposed to what it says
_IDENTITY: Final = frozenset({"call_id", "id", "name", "role", "status", "tool_call_id", "tool_use_id", "type"})


def request_turns(payload: str | None, *, full_tools: bool = False) -> list[Turn]:
    """The turns of a request, as far as ``payload`` can be read; ``full_tools``: tools are defined, not named."""
    return _read(payload, "user", _request_with_tools if full_tools else _request)


def response_turns(payload: str | None) -> list[Turn]:
    """The turns of a response, as far as ``payload`` can be read."""
    return _read(payload, "assistant", _response)


def _read(payload: str | None, role: str, parse: Callable[[JsonObject], list[Turn]]) -> list[Turn]:
    if payload in (None, "null"):
        return []
    try:
        body = json.loads(payload)
        if isinstance(body, dict):
            return parse(obj(body))
    except (ValueError, RecursionError):
        pass
    return [Turn(role, "note", payload)]


def _request(body: JsonObject) -> list[Turn]:
    names = [_tool_name(tool) for tool in _tools(body)]
    tools = [Turn("system", "note", ", ".join(names), "tools")] if names else []
    return [*_messages(body), *tools] or [Turn("user", "note", _sketch(body))]


def _request_with_tools(body: JsonObject) -> list[Turn]:
    return [*_messages(body), *map(_tool, _tools(body))] or [Turn("user", "note", _sketch(body))]


def _messages(body: JsonObject) -> Iterator[Turn]:
    yield from _said("system", gemini_messages.instructions(body))
    messages = gemini_messages.input_messages(body)
    if messages:
        yield from _parts_of(messages)
        return
    for key in ("instructions", "system"):
        yield from _said("system", body.get(key))
    for key in ("messages", "input", "prompt"):
        yield from _said("user", body.get(key))


def _response(body: JsonObject) -> list[Turn]:
    turns = [*_parts_of(gemini_messages.output_messages(body))]
    turns += (Turn("assistant", "note", text, label) for label, text in gemini_notes.notes(body))
    for choice in objects(body.get("choices")):
        turns += _said("assistant", obj(choice.get("message")) or choice.get("text"))
    for key in ("output", "content"):
        turns += _said("assistant", body.get(key))
    return turns or [_odd_response(body)]


def _parts_of(messages: list[JsonObject]) -> Iterator[Turn]:
    """The turns of messages of the GenAI conventions, by their parts."""
    for message in messages:
        yield from _said(message["role"], message["parts"])


def _odd_response(body: JsonObject) -> Turn:
    vectors = [item.get("embedding") for item in objects(body.get("data"))] or gemini_messages.vectors(body)
    if any(vector is not None for vector in vectors):
        size = f" of {len(vectors[0])} numbers" if isinstance(vectors[0], list) else ""
        return Turn("assistant", "note", f"{len(vectors)} vector{'s'[: len(vectors) != 1]}{size}", "embeddings")
    return Turn("assistant", "note", _sketch(body))


def _said(role: str, value: Any) -> Iterator[Turn]:
    """The turns in a string, a message, an item, a part, or a list of any of them."""
    if isinstance(value, str):
        if value:
            yield Turn(role, "text", value)
    elif isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        yield Turn(role, "note", f"{len(value):,} tokens", "tokens")
    elif isinstance(value, list):
        for item in value:
            yield from _said(role, item)
    elif isinstance(value, dict):
        yield from _said_by(role, obj(value))
    elif value is not None:
        yield Turn(role, "note", _json(value))


def _said_by(role: str, part: JsonObject) -> Iterator[Turn]:
    kind = str(part.get("type") or ("message" if "role" in part else ""))
    role = _AUTHORS.get(kind, role)
    if kind in ("message", "") and ("role" in part or "tool_calls" in part):
        yield from _message(role, part)
    elif kind in _TEXT:
        yield from _said(role, _words(part))
        yield from _sources(role, part)
    elif kind == "compaction":
        yield Turn(role, "note", _words(part) or "[encrypted]", "compaction")
    elif kind in _THINKING:
        yield Turn("assistant", "thinking", _words(part) or "[encrypted]")
    elif kind.endswith(_RESULT_ENDINGS) and kind not in _NO_RESULTS:
        call_id = _call_id(part, ("tool_use_id", "call_id", "id" if kind.endswith("_response") else ""))
        inner = obj(part.get(kind))  # of the GenAI conventions' parts
        yield Turn("tool", "result", _result(inner or part), call_id or str(inner.get("type") or kind), call_id)
    elif kind.endswith(("_call", "tool_use")) or kind == "function":
        yield _call(kind, part)
        yield from _own_result(kind, part)
    else:
        yield _note(role, kind or "object", part)


def _sources(role: str, part: JsonObject) -> Iterator[Turn]:
    sources = cited_sources(part)
    if sources:
        yield Turn(role, "note", "\n".join(sources), "sources")


def _note(role: str, kind: str, part: JsonObject) -> Turn:
    """What is not words: an image, a sound or a file by its type, size and hash; else its JSON."""
    label = str(part.get("modality") or kind)
    words = _document_text(part)
    if words:
        return Turn(role, "note", words, label)
    media = _media_in(part)
    if media is None:
        return Turn(role, "note", _sketch(part), label)
    return Turn(role, "note", f"{media.type}, {media.size:,} bytes, sha256 {media.sha256}", label, media=media)


def _document_text(part: JsonObject) -> str:
    """What a document says that is plain text, after its title; empty if it is none."""
    source = obj(part.get("source"))
    if source.get("type") != "text" or not isinstance(source.get("data"), str):
        return ""
    return "\n".join(str(text) for text in (part.get("title"), part.get("context"), source["data"]) if text)


def _media_in(part: JsonObject) -> Media | None:
    """The media of a part, which has it as a member, or within its source."""
    for name, value in part.items():
        media = media_of(value, name, part)
        if media is None and isinstance(value, dict):
            source = {"type": part.get("type") if name == "source" else name} | obj(value)
            candidates = (media_of(member, key, source) for key, member in source.items())
            media = next(filter(None, candidates), None)
        if media is not None:
            return media
    return None


def _message(role: str, message: JsonObject) -> Iterator[Turn]:
    role = str(message.get("role") or role)
    role = _ROLES.get(role, role)
    if role == "tool":
        call_id = _call_id(message, ("tool_call_id",))
        yield Turn(role, "result", _result(message), call_id or str(message.get("name") or ""), call_id)
        return
    for key in ("reasoning_content", "reasoning"):
        for turn in _said(role, message.get(key)):
            yield Turn("assistant", "thinking", turn.text)
    for key in ("content", "parts", "refusal"):  # parts: a message of the GenAI conventions
        yield from _said(role, message.get(key))
    yield from _sources(role, message)
    for call in (*objects(message.get("tool_calls")), *objects([message.get("function_call")])):
        yield _call(str(call.get("type") or "function"), call)


def _call(kind: str, call: JsonObject) -> Turn:
    """A call of a tool, which only the model makes, whatever message or list it is in."""
    function = obj(call.get(kind)) or call
    arguments = next((function[key] for key in _ARGUMENTS if function.get(key) is not None), None)
    if arguments is None:
        arguments = _sketch({key: value for key, value in function.items() if key not in _IDENTITY})
    text = arguments if isinstance(arguments, str) else _json(arguments)
    name = str(function.get("name") or call.get("name") or kind)
    return Turn("assistant", "call", text, name, _call_id(call, ("call_id", "id")))


def _own_result(kind: str, call: JsonObject) -> Iterator[Turn]:
    """What a call of a tool that the provider runs has come to, which is in the item of the call itself."""
    if all(call.get(key) is None for key in _ARGUMENTS):
        return  # then all of the item is shown as its arguments
    for key in ("output", "error"):
        text = "\n".join(turn.text for turn in _said("tool", call.get(key)))
        if text:
            text = f"[error] {text}" if key == "error" else text
            yield Turn("tool", "result", text, str(call.get("name") or kind), _call_id(call, ("call_id", "id")))


def _call_id(part: JsonObject, keys: tuple[str, ...]) -> str:
    """What joins a call of a tool and its result; empty if the API gives none."""
    return str(next((part[key] for key in keys if part.get(key)), ""))


def _result(part: JsonObject) -> str:
    value = next((part[key] for key in _RESULTS if part.get(key) is not None), None)
    text = "\n".join(turn.text for turn in _said("tool", value))
    if not text:
        text = _sketch({key: value for key, value in part.items() if key not in _IDENTITY})
    return f"[error] {text}" if part.get("is_error") else text


def _words(part: JsonObject) -> str:
    text = next((part[key] for key in _WORDS if part.get(key)), "")
    return text if isinstance(text, str) else "\n".join(turn.text for turn in _said("", text))


def _tools(body: JsonObject) -> Iterator[JsonObject]:
    """The definitions of tools, those within a namespace after it."""
    definitions = gemini_messages.tools(body)
    if definitions:
        yield from definitions
        return
    for tool in (*objects(body.get("tools")), *objects(body.get("functions"))):
        yield tool
        if tool.get("type") == "namespace":
            yield from objects(tool.get("tools"))


def _tool(tool: JsonObject) -> Turn:
    """The whole definition: the description as text, then parameters and configuration as JSON."""
    definition = _definition(tool)
    label_keys = ("type", "name", "description", "tools" if tool.get("type") == "namespace" else "")
    details = {key: value for key, value in definition.items() if key not in label_keys}
    texts = [
        str(definition.get("description") or ""),
        json.dumps(details, ensure_ascii=False, indent=2) if details else "",
    ]
    return Turn("system", "tool", "\n".join(filter(None, texts)), _tool_name(tool))


def _definition(tool: JsonObject) -> JsonObject:
    return obj(tool.get("function")) or obj(tool.get("custom")) or tool


def _tool_name(tool: JsonObject) -> str:
    definition = _definition(tool)
    names = (definition.get(key) for key in ("name", "server_label", "mcp_server_name"))
    return str(next(filter(None, names), None) or tool.get("type") or "?")


def _sketch(part: Any) -> str:
    """What is not words (an image, a file): its JSON, with long strings replaced by their size."""
    return _json(_shortened(part))


def _shortened(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value if len(value) <= 200 else f"{value[:40]}... ({len(value):,} characters)"
    if depth > 20:
        return "..."
    if isinstance(value, dict):
        return {key: _shortened(member, depth + 1) for key, member in value.items()}
    if isinstance(value, list):
        return [_shortened(inner, depth + 1) for inner in value]
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
