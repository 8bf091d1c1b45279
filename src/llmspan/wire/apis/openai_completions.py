"""Legacy completions (``POST /completions``). Source: openai ``Completion``, the same object streamed and not."""

from __future__ import annotations

from typing import ClassVar

from ..reply import JsonObject, has_value, obj, objects, string
from .openai_chat import ChatParser


class CompletionsParser(ChatParser):
    """Reads text completions: as chat, but a choice holds ``text`` and its log-probabilities are parallel lists."""

    object_name: ClassVar[str] = "text_completion"

    def carries_output(self, data: JsonObject) -> bool:
        """A choice with text."""
        return any(choice.get("text") for choice in objects(data.get("choices")))

    def _take_choice(self, choice: JsonObject) -> None:
        index = choice.get("index")
        merged = self._choices.setdefault(index if isinstance(index, int) else 0, {"text": ""})
        for key, value in choice.items():
            if key == "text":
                merged["text"] += string(value) or ""
            elif key == "logprobs":
                merged[key] = _join_logprobs(obj(merged.get(key)), obj(value)) or None
            elif has_value(value) or key not in merged:
                merged[key] = None if value == "null" else value

    def _finish_choice(self, choice: JsonObject) -> JsonObject:
        index = choice.get("index")
        return {**choice, "index": index if isinstance(index, int) else 0, "logprobs": choice.get("logprobs")}


def _join_logprobs(old: JsonObject, new: JsonObject) -> JsonObject:
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        if isinstance(value, list) and isinstance(before, list):
            merged[key] = [*before, *value]
        elif value is not None or key not in merged:
            merged[key] = value
    return merged
