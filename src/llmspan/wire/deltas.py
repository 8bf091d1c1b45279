"""Merging a chat stream's deltas into the message.

Strings grow, indexed lists are merged item by item, the rest is replaced. A vendor's additions (reasoning, citations,
annotations) follow the same rules as OpenAI's own keys.
"""

from __future__ import annotations

from typing import Any, Final

from .reply import JsonObject, obj, said

#: strings that identify or classify: a later chunk repeats them, it does not continue them
_WHOLE: Final = frozenset({"role", "type", "format", "name", "index", "finish_reason", "channel", "signature"})


def merge(target: JsonObject, delta: JsonObject) -> None:
    """Merge one delta into what has been received."""
    for key, value in delta.items():
        old = target.get(key)
        if old is None:
            target[key] = _indexed(value) if isinstance(value, list) else value
        elif isinstance(value, str) and isinstance(old, str):
            target[key] = _merged_string(key, old, value)
        elif isinstance(value, dict) and isinstance(old, dict):
            merge(old, value)
        elif key == "content" and isinstance(value, list | str) and isinstance(old, list | str):
            target[key] = _joined_parts(_parts(old), _parts(value))
        elif isinstance(value, list) and isinstance(old, list):
            _merge_lists(old, value)
        elif value is not None:
            target[key] = value


def _merged_string(key: str, old: str, new: str) -> str:
    if key == "id":
        return old if said(old) else new
    if key in _WHOLE:
        return new if said(new) else old
    return old + new


def _parts(content: list[Any] | str) -> list[Any]:
    """Content as a list of parts: Mistral turns from parts (thinking) to plain strings within one stream."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _joined_parts(old: list[Any], new: list[Any]) -> list[Any]:
    """Two lists of content parts as one; a part that continues its neighbour (text, thinking) is merged into it."""
    joined = list(old)
    for part in new:
        last, more = obj(joined[-1]) if joined else {}, obj(part)
        kind = more.get("type")
        before, after = last.get(str(kind)), more.get(str(kind))
        if kind != last.get("type") or kind not in ("text", "thinking"):
            joined.append(part)
        elif isinstance(before, str) and isinstance(after, str):
            joined[-1] = {**last, kind: before + after}
        elif isinstance(before, list) and isinstance(after, list):
            joined[-1] = {**last, kind: _joined_parts(before, after)}
        else:
            joined.append(part)
    return joined


def _indexed(items: list[Any]) -> list[Any]:
    """A list of its own, several pieces of one index in the same delta already merged."""
    merged: list[Any] = []
    _merge_lists(merged, items)
    return merged


def _merge_lists(old: list[Any], new: list[Any]) -> None:
    for item in new:
        twin = _twin(old, item)
        if twin is None:
            old.append(dict(item) if isinstance(item, dict) else item)
        else:
            merge(twin, item)


def _twin(old: list[Any], item: Any) -> JsonObject | None:
    """The item that ``item`` continues: the latest of the same ``index`` whose id and type, if it has them, agree.

    OpenRouter numbers reasoning details by index but sends text and its encrypted form, two details, under one index.
    Without an index an item is a new one.
    """
    new = obj(item)
    if new.get("index") is None:
        return None
    for other in reversed(old):
        known = obj(other)
        if known.get("index") == new["index"] and _agree(known, new, "id") and _agree(known, new, "type"):
            return known
    return None


def _agree(known: JsonObject, new: JsonObject, key: str) -> bool:
    before, after = said(known.get(key)), said(new.get(key))
    return before is None or after is None or before == after
