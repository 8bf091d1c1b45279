"""Estimates of the tokens of a call whose provider reported none: ``LLMSPAN_ESTIMATE_USAGE``.

Made on a worker, from the texts of request and response, and kept apart from what providers report: in
``usage_details`` as ``estimated_input_tokens`` and ``estimated_output_tokens``, with ``usage_source`` still ``none``.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from ._guard import guarded
from .errors import SettingsError

__all__ = ["ESTIMATED_INPUT", "ESTIMATED_OUTPUT", "Estimator", "count_tokens"]

ESTIMATED_INPUT: Final = "estimated_input_tokens"
ESTIMATED_OUTPUT: Final = "estimated_output_tokens"

#: what the model reads of a request, and what of a response it wrote
_REQUEST_KEYS: Final = ("instructions", "system", "messages", "input", "prompt", "tools", "functions",
                        "response_format", "output_config", "text")  # fmt: skip
_RESPONSE_KEYS: Final = ("choices", "output", "content", "completion")
#: members that are no text for the model, or are media and signatures of a size that says nothing about tokens
_NOT_TEXT: Final = frozenset(
    {"id", "type", "role", "object", "status", "index", "finish_reason", "logprobs", "call_id", "tool_call_id",
     "tool_use_id", "item_id", "image_url", "file_data", "data", "b64_json", "source", "signature", "url", "file_id",
     "encrypted_content", "result", "media_type", "cache_control", "annotations", "citations", "detail", "input_audio"}
)  # fmt: skip
#: tokens that the frame of each message and of each reply takes
_PER_MESSAGE: Final = 4
#: what Anthropic's documentation gives for the system prompt that enables tools
_ANTHROPIC_TOOLS: Final = 346
_TOOLS: Final = ("tools", "functions")
#: members that the model reads as JSON
_AS_JSON: Final = (*_TOOLS, "response_format", "output_config")
_PIECE: Final = re.compile(r"[A-Za-z]+|[0-9]{1,3}|[^\W\d_A-Za-z]+|[^\w\s]{1,3}|_+|\n+")
_LETTERS_PER_TOKEN: Final = 6
#: of scripts that are written without spaces a character is about a token, of the others two or three are
_DENSE: Final = 0x2E80
_OTHER_LETTERS_PER_TOKEN: Final = 3


@dataclass(slots=True)
class Estimator:
    """Counts by the built-in rule, or by a function of the program: ``count(text)`` or ``count(text, model)``."""

    function: Callable[..., Any] | str | None = None

    def check(self) -> None:
        """Find the function now instead of at its first use.

        Raises:
            SettingsError: there is none of that name.
        """
        if isinstance(self.function, str):
            self.function = _find(self.function)

    def estimate(self, request: str | None, response: str | None, model: str | None) -> dict[str, int]:
        """The entries of ``usage_details`` for the JSON texts of a call; a count that fails is left out."""
        details: dict[str, int] = {}
        for name, text, keys in (
            (ESTIMATED_INPUT, request, _REQUEST_KEYS),
            (ESTIMATED_OUTPUT, response, _RESPONSE_KEYS),
        ):
            number = guarded("estimate", self._count, text, keys, model) if text else None
            if number is not None:
                details[name] = number
        return details

    def _count(self, text: str, keys: tuple[str, ...], model: str | None) -> int | None:
        body = json.loads(text)
        if not isinstance(body, dict) or not any(key in body for key in keys):
            return None
        parts = [part for key in keys if key in body for part in _texts(body[key], key)]
        if self.function is None:
            return _frames(body, keys) + sum(map(count_tokens, parts))
        self.check()
        number = _call(self.function, "\n".join(parts), model)
        if type(number) is not int or number < 0:
            raise ValueError(f"the function of LLMSPAN_ESTIMATE_USAGE returned {type(number).__name__}, not a count")
        return number


def count_tokens(text: str) -> int:
    """About how many tokens ``text`` is: a rule over words, digits, signs and scripts, without a vocabulary."""
    return sum(map(_weight, _PIECE.findall(text)))


def _frames(body: dict[str, Any], keys: tuple[str, ...]) -> int:
    """The tokens around the texts: of each message, and of the instructions that Anthropic adds to tools."""
    lists = [len(body[key]) for key in keys if isinstance(body.get(key), list) and key not in _TOOLS]
    frames = _PER_MESSAGE * max([1, *lists])
    tools = body.get("tools")
    has_schemas = isinstance(tools, list) and any(isinstance(tool, dict) and "input_schema" in tool for tool in tools)
    return frames + (_ANTHROPIC_TOOLS if has_schemas else 0)


def _weight(piece: str) -> int:
    first = piece[0]
    if first.isascii():
        return 1 + (len(piece) - 1) // _LETTERS_PER_TOKEN if first.isalpha() else 1
    if ord(first) >= _DENSE:
        return len(piece)
    return 1 + (len(piece) - 1) // _OTHER_LETTERS_PER_TOKEN


def _texts(value: Any, key: str) -> Iterator[str]:
    """The strings within a JSON value that a model reads or writes. Tools and schemas are read as JSON."""
    if key in _AS_JSON or (key == "text" and isinstance(value, dict)):
        yield json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    elif isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, "")
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NOT_TEXT:
                yield from _texts(item, "" if name in _AS_JSON else name)


def _call(function: Any, text: str, model: str | None) -> Any:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a function made in C
        return function(text)
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return function(text, model) if len(positional) > 1 else function(text)


def _find(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    try:
        target: Any = import_module(module)
        for part in path.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"LLMSPAN_ESTIMATE_USAGE={name}: {error}; name a function that can be imported") from error
    if not callable(target):
        raise SettingsError(f"LLMSPAN_ESTIMATE_USAGE={name}: that is {type(target).__name__}, not a function")
    return target
