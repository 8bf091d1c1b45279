"""Calls as examples in OpenAI's format for supervised fine-tuning of chat models. Pure: records in, values out.

An example is the conversation that was sent and the answer that came. Only that answer has a weight of 1: earlier
answers of the conversation are in examples of their own, and would be learnt once more with each later call. A call
that cannot be such an example is refused with the reason; nothing is left out of one silently but hidden thoughts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

from .. import _json
from ..messages import INPUT, INSTRUCTIONS, OUTPUT, TOOLS, content_attributes
from ..trace import ProviderTrace

__all__ = ["NotAnExampleError", "finetune_example"]

_APIS: Final = ("chat_completions", "responses", "messages", "generate_content", "interactions")
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

#: what a request refers to a conversation by, or to the beginning of one
_KEPT: Final = ("previous_response_id", "conversation", "previous_interaction_id", "cachedContent", "cached_content")

#: the types of a schema as Protobuf's enum spells them
_TYPES: Final = ("ARRAY", "BOOLEAN", "INTEGER", "NULL", "NUMBER", "OBJECT", "STRING")

JsonObject = dict[str, Any]


class NotAnExampleError(ValueError):
    """A call cannot be an example; the message is the reason."""


def finetune_example(record: ProviderTrace) -> JsonObject:
    """The example that a call makes: ``messages``, and ``tools`` if it had some.

    Raises:
        NotAnExampleError: the call failed or was cut, its payload is not there, or it has what the format has not.
    """
    _check_record(record)
    attributes = content_attributes(_load(record.request_json), _load(record.response_json))
    answers = attributes.get(OUTPUT, [])
    if len(answers) != 1:
        raise NotAnExampleError("no answer" if not answers else "several answers")
    between = "" if record.api == "generate_content" else "\n"
    inputs = [*_instructions(attributes.get(INSTRUCTIONS, []), between), *attributes.get(INPUT, [])]
    messages = [message for one in inputs for message in _messages(one, between)]
    answer = _merged([message for one in answers for message in _messages(one, between)])
    if len(answer) != 1 or answer[0]["role"] != "assistant":
        raise NotAnExampleError("no answer")
    _give_ids([*messages, *answer])
    # Each answer of a conversation is the last one of a call, and so has an example in which it is trained.
    earlier = [message | {"weight": 0} if message["role"] == "assistant" else message for message in _merged(messages)]
    if not any(message["role"] == "user" for message in earlier):
        raise NotAnExampleError("no message of a user")
    tools = [_tool(tool) for tool in attributes.get(TOOLS, [])]
    return {"messages": [*earlier, answer[0] | {"weight": 1}], **({"tools": tools} if tools else {})}


def _check_record(record: ProviderTrace) -> None:
    if record.api not in _APIS:
        raise NotAnExampleError(f"api {record.api}")
    if record.status != "ok":
        raise NotAnExampleError(f"status {record.status}")
    if record.content != "full" or record.request_json is None or record.response_json is None:
        raise NotAnExampleError(f"content {record.content}" if record.content != "full" else "no payload")


def _load(text: str | None) -> JsonObject:
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NotAnExampleError("a payload that is no JSON object")
    # What the model saw is then more than the request has, and an example without it would teach another answer.
    if any(value.get(key) for key in _KEPT):
        raise NotAnExampleError("a conversation that the provider keeps")
    return value


def _instructions(parts: list[JsonObject], between: str) -> list[JsonObject]:
    """Each instruction as a message; those of Google's are the parts of one content."""
    if parts and not between:
        return [{"role": "system", "parts": parts}]
    return [{"role": "system", "parts": [part]} for part in parts]


def _messages(message: JsonObject, between: str) -> Iterator[JsonObject]:
    """The messages of the format that one of the conventions' messages is: answers of tools are messages by themselves.

    ``between``: what its texts are joined by; those of Google's contents may be cut within a word.

    Raises:
        NotAnExampleError: it has a part, or a role, that the format does not have.
    """
    role = _ROLES.get(message["role"])
    if role is None:
        raise NotAnExampleError(f"role {message['role']}")
    content: list[str] = []
    calls: list[JsonObject] = []
    for part in message["parts"]:
        kind = part["type"]
        if kind == "text":
            content.append(part["content"])
        elif kind == "tool_call" and role == "assistant":
            calls.append(_call(part))
        elif kind == "tool_call_response":
            yield _tool_message(part)
        elif kind != "reasoning":
            raise NotAnExampleError(f"a part of type {kind}")
    if content or calls:
        text = {"content": between.join(content)} if content else {}
        yield {"role": role, **text, **({"tool_calls": calls} if calls else {})}


def _call(part: JsonObject) -> JsonObject:
    arguments = part.get("arguments")
    text = arguments if isinstance(arguments, str) else _json.dumps({} if arguments is None else arguments)
    function = {"name": str(part.get("name") or ""), "arguments": text}
    return {"id": str(part.get("id") or ""), "type": "function", "function": function}


def _tool_message(part: JsonObject) -> JsonObject:
    """An answer of a tool; until calls have their ids, also the ``name`` of the function where the API gives both."""
    name = {"name": part["name"]} if isinstance(part.get("name"), str) else {}
    return {"role": "tool", "tool_call_id": str(part.get("id") or ""), "content": _answer(part.get("response")), **name}


def _answer(response: Any) -> str:
    """A tool's answer as text.

    Raises:
        NotAnExampleError: it has an image or something else that is no text.
    """
    if isinstance(response, list) and any(
        isinstance(part, dict) and part.get("type") not in (None, "text", "input_text", "output_text")
        for part in response
    ):
        raise NotAnExampleError("an answer of a tool that is no text")
    if isinstance(response, list) and all(isinstance(part, dict) and "text" in part for part in response):
        return "\n".join(str(part["text"]) for part in response)
    return response if isinstance(response, str) else "" if response is None else _json.dumps(response)


def _give_ids(messages: Sequence[JsonObject]) -> None:
    """Give each call an id, and its answer the same: its own, the one that only its answer has, or a number."""
    pairs = _calls_with_answers(messages)
    ids = {call["id"] for call, _ in pairs}
    for call, answer in pairs:
        if not call["id"] and "name" in answer and answer["tool_call_id"] not in ids:
            call["id"] = answer["tool_call_id"]
            ids.add(call["id"])
    numbered_ids = (name for name in map("call_{}".format, count(1)) if name not in ids)
    for call, answer in pairs:
        call["id"] = call["id"] or next(numbered_ids)
        answer["tool_call_id"] = call["id"]
    for message in messages:
        message.pop("name", None)


def _calls_with_answers(messages: Sequence[JsonObject]) -> list[tuple[JsonObject, JsonObject]]:
    """Each call with its answer, which is empty if there is none.

    Raises:
        NotAnExampleError: an answer has no call before it.
    """
    calls: list[JsonObject] = []
    answers: list[tuple[JsonObject, int]] = []  # each with the number of calls before it
    for message in messages:
        calls += message.get("tool_calls", ())
        if message["role"] == "tool":
            answers.append((message, len(calls)))
    answer_of_call = _matched(calls, answers)
    if len(answer_of_call) < len(answers):
        raise NotAnExampleError("an answer of a tool without its call")
    return [(call, answer_of_call.get(at, {})) for at, call in enumerate(calls)]


def _matched(calls: list[JsonObject], answers: list[tuple[JsonObject, int]]) -> dict[int, JsonObject]:
    """The answers by the places of their calls: told by id, else by the function's name and the order."""
    answer_of_call: dict[int, JsonObject] = {}
    open_answers = answers
    for is_match in (_has_id, _has_name):
        left_over: list[tuple[JsonObject, int]] = []
        for answer, end in open_answers:
            places = (at for at in range(end) if at not in answer_of_call and is_match(calls[at], answer))
            at = next(places, None)
            if at is None:
                left_over.append((answer, end))
            else:
                answer_of_call[at] = answer
        open_answers = left_over
    return answer_of_call


def _has_id(call: JsonObject, answer: JsonObject) -> bool:
    return call["id"] != "" and call["id"] == answer["tool_call_id"]


def _has_name(call: JsonObject, answer: JsonObject) -> bool:
    name = answer.get("name", answer["tool_call_id"])
    return name != "" and name == call["function"]["name"]


def _merged(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """``messages``, those of the assistant that follow each other as one: an API may give a call an item of its own."""
    merged: list[JsonObject] = []
    for message in messages:
        if merged and message["role"] == "assistant" == merged[-1]["role"]:
            merged[-1] = _joined(merged[-1], message)
        else:
            merged.append(message)
    return merged


def _joined(first: JsonObject, second: JsonObject) -> JsonObject:
    texts = [message["content"] for message in (first, second) if "content" in message]
    calls = [*first.get("tool_calls", ()), *second.get("tool_calls", ())]
    content = {"content": "\n".join(texts)} if texts else {}
    return {"role": "assistant", **content, **({"tool_calls": calls} if calls else {})}


def _tool(tool: JsonObject) -> JsonObject:
    """A definition of a tool; raises :class:`NotAnExampleError` if it is not a function of the program's own."""
    if tool["type"] != "function":
        raise NotAnExampleError(f"a tool of type {tool['type']}")
    described = {key: _json_schema(tool[key]) for key in ("description", "parameters") if key in tool}
    return {"type": "function", "function": {"name": tool["name"], **described}}


def _json_schema(value: Any, name: str = "") -> Any:
    """A schema with its types as JSON Schema spells them; an API may have them in capital letters."""
    if isinstance(value, dict):
        return {key: _json_schema(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [_json_schema(item) for item in value]
    return value.lower() if name == "type" and value in _TYPES else value
