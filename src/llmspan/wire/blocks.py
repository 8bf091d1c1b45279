"""The content blocks of an Anthropic stream: starts and deltas in, the blocks of the non-streaming message out.

Anthropic numbers blocks by ``index``. Gateways leave it out or send 0 for all, so a start opens another block where the
block of its index has content already, and a delta belongs to the latest block of its index, else to the latest block.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .reply import JsonObject, obj, text


@dataclass(slots=True)
class _Block:
    index: int | None
    content: JsonObject
    #: the tool input as text, as far as deltas have spelled it
    input: str = ""
    #: a delta or its stop has arrived
    has_begun: bool = False

    def take(self, delta: JsonObject) -> None:
        """Merge a delta."""
        self.has_begun = True
        kind, content = delta.get("type"), self.content
        if kind == "input_json_delta":
            self.input += text(delta.get("partial_json")) or ""
        elif kind == "citations_delta":
            citations = content.get("citations")
            content["citations"] = [*(citations if isinstance(citations, list) else []), delta.get("citation")]
        elif kind == "signature_delta":
            content["signature"] = delta.get("signature")
        else:  # text_delta, thinking_delta, compaction_delta, and what is yet to come
            for key, value in delta.items():
                if key != "type":
                    old = content.get(key)
                    content[key] = old + value if isinstance(old, str) and isinstance(value, str) else value

    def finished(self) -> JsonObject:
        """The block with its tool input as an object."""
        return {**self.content, "input": _tool_input(self.input)} if self.input else self.content


class Blocks:
    """The blocks of one message."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def event(self, kind: object, data: JsonObject) -> None:
        """Take a ``content_block_*`` event that is no delta; other events change nothing."""
        index = data.get("index") if isinstance(data.get("index"), int) else None
        if kind == "content_block_start":
            self._open(index, dict(obj(data.get("content_block"))))
        elif kind == "content_block_stop":
            block = self._at(index)
            if block is not None:
                block.has_begun = True

    def add_delta(self, data: JsonObject) -> None:
        """Take a ``content_block_delta`` event. Nearly all continue the latest block: that is looked at first."""
        index = data.get("index")
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.index != index:
            number = index if isinstance(index, int) else None
            block = self._at(number) or self._add(number, {"type": "text", "text": ""})
        delta = data.get("delta")
        block.take(delta if isinstance(delta, dict) else {})

    def finished(self) -> list[JsonObject]:
        """The blocks by their index, as they arrived where one has none."""
        blocks = self._blocks
        if all(block.index is not None for block in blocks):
            blocks = sorted(blocks, key=lambda block: block.index or 0)
        return [block.finished() for block in blocks]

    def _open(self, index: int | None, content: JsonObject) -> None:
        twin = None if index is None else self._at(index)
        if twin is not None and not twin.has_begun and twin.content.get("id") == content.get("id"):
            twin.content = content  # the same start once more
        else:
            self._add(index, content)

    def _add(self, index: int | None, content: JsonObject) -> _Block:
        block = _Block(index, content)
        self._blocks.append(block)
        return block

    def _at(self, index: int | None) -> _Block | None:
        if index is None:
            return self._blocks[-1] if self._blocks else None
        for block in reversed(self._blocks):
            if block.index == index:
                return block
        return None


def _tool_input(text: str) -> Any:
    """The tool input that the deltas spell; cut short or invalid, it is kept as Anthropic's guide proposes."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"INVALID_JSON": text}
