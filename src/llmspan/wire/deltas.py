"""Merging a chat stream's deltas into the message.

Strings grow, indexed lists are merged item by item, the rest is replaced. A vendor's additions (reasoning, citations,
annotations) follow the same rules as OpenAI's own keys.
"""

from __future__ import annotations

from typing import Any, Final

from .reply import JsonObject, meaningful_text, obj

#: strings that identify or classify: a later chunk repeats them, it does not continue them
_REPLACED: Final = frozenset({"role", "type", "format", "name", "index", "finish_reason", "channel", "signature"})
_NOT_GROWN: Final = _REPLACED | {"id"}


def merge(target: JsonObject, delta: JsonObject) -> None:
    """Merge one delta into what has been received."""
    for key, value in delta.items():
        old = target.get(key)
        if old is None:
            target[key] = _merge_by_index(value) if isinstance(value, list) else value
        elif isinstance(value, str) and isinstance(old, str):
            target[key] = _merge_strings(key, old, value) if key in _NOT_GROWN else old + value
        elif isinstance(value, dict) and isinstance(old, dict):
            merge(old, value)
        elif key == "content" and isinstance(value, list | str) and isinstance(old, list | str):
            target[key] = _join_parts(_parts(old), _parts(value))
        elif isinstance(value, list) and isinstance(old, list):
            _merge_lists(old, value)
        elif value is not None:
            target[key] = value


def _merge_strings(key: str, old: str, new: str) -> str:
    """Of two strings that do not continue each other, the first id, else the last."""
    if key == "id":
        return old if meaningful_text(old) else new
    return new if meaningful_text(new) else old


def _parts(content: list[Any] | str) -> list[Any]:
    """Content as a list of parts: Mistral turns from parts (thinking) to plain strings within one stream."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _join_parts(old: list[Any], new: list[Any]) -> list[Any]:
    """Two lists of content parts as one; a part that continues its neighbour (text, thinking) is merged into it."""
    parts = list(old)
    for part in new:
        last, addition = obj(parts[-1]) if parts else {}, obj(part)
        kind = addition.get("type")
        before, after = last.get(str(kind)), addition.get(str(kind))
        if kind != last.get("type") or kind not in ("text", "thinking"):
            parts.append(part)
        elif isinstance(before, str) and isinstance(after, str):
            parts[-1] = {**last, kind: before + after}
        elif isinstance(before, list) and isinstance(after, list):
            parts[-1] = {**last, kind: _join_parts(before, after)}
        else:
            parts.append(part)
    return parts


def _merge_by_index(items: list[Any]) -> list[Any]:
    """A list of its own, several pieces of one index in the same delta already merged."""
    merged: list[Any] = []
    _merge_lists(merged, items)
    return merged


def _merge_lists(old: list[Any], new: list[Any]) -> None:
    for item in new:
        twin = _item_continued_by(old, item)
        if twin is None:
            old.append(dict(item) if isinstance(item, dict) else item)
        else:
            merge(twin, item)


def _item_continued_by(old: list[Any], item: Any) -> JsonObject | None:
    """The item that ``item`` continues: the latest of the same ``index`` whose id and type, if it has them, agree.

    OpenRouter numbers reasoning details by index but sends text and its encrypted form, two details, under one index.
    Without an index an item is a new one.
    """
    new = obj(item)
    if new.get("index") is None:
        return None
    for other in reversed(old):
        candidate = obj(other)
        if (
            candidate.get("index") == new["index"]
            and _is_compatible(candidate, new, "id")
            and _is_compatible(candidate, new, "type")
        ):
            return candidate
    return None


def _is_compatible(old: JsonObject, new: JsonObject, key: str) -> bool:
    before, after = meaningful_text(old.get(key)), meaningful_text(new.get(key))
    return before is None or after is None or before == after
