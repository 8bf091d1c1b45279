"""Legacy completions (``POST /completions``). Source: openai ``Completion``, the same object streamed and not."""

from __future__ import annotations

from typing import ClassVar

from .chat import ChatReader
from .reply import JsonObject, obj, objects, says, string


class CompletionsReader(ChatReader):
    """Reads text completions: as chat, but a choice holds ``text`` and its log-probabilities are parallel lists."""

    object_name: ClassVar[str] = "text_completion"

    def carries_output(self, data: JsonObject) -> bool:
        """A choice with text."""
        return any(choice.get("text") for choice in objects(data.get("choices")))

    def _take_choice(self, choice: JsonObject) -> None:
        index = choice.get("index")
        kept = self._choices.setdefault(index if isinstance(index, int) else 0, {"text": ""})
        for key, value in choice.items():
            if key == "text":
                kept["text"] += string(value) or ""
            elif key == "logprobs":
                kept[key] = _joined(obj(kept.get(key)), obj(value)) or None
            elif says(value) or key not in kept:
                kept[key] = None if value == "null" else value

    def _finished(self, choice: JsonObject) -> JsonObject:
        index = choice.get("index")
        return {**choice, "index": index if isinstance(index, int) else 0, "logprobs": choice.get("logprobs")}


def _joined(old: JsonObject, new: JsonObject) -> JsonObject:
    joined = dict(old)
    for key, value in new.items():
        before = joined.get(key)
        if isinstance(value, list) and isinstance(before, list):
            joined[key] = [*before, *value]
        elif value is not None or key not in joined:
            joined[key] = value
    return joined
