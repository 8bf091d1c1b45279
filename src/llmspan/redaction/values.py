"""Walks JSON values without recursion: a value that is nested a thousand levels deep is walked like any other.

Providers nest errors, and programs nest attributes, deeper than Python's stack allows a recursive walk. Every copy of
a parsed value that is not the standard library's own is made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

#: takes a member's name and value; answers whether the value is replaced as a whole, and by what
Member = Callable[[str, Any], tuple[bool, Any]]
#: takes what is no container, with the name of its member ("" in a list) and the container that it is in
Leaf = Callable[[Any, str, Any], Any]

#: as deep as ``_json.dumps`` writes
_DEEPEST: Final = 200
TOO_DEEP: Final = "[nested too deep]"


def map_json(
    value: Any,
    *,
    leaf: Leaf | None = None,
    name: Callable[[str], str] | None = None,
    member: Member | None = None,
) -> Any:
    """A copy of a JSON value: ``leaf`` maps what is no container, ``name`` the names of members.

    ``member`` is asked first for each member of an object: it may replace the value, which is then not walked. What is
    nested deeper than 200 levels becomes a text with that reason.
    """
    result: list[Any] = [None]
    # a value, its depth, where its copy goes, and the name and the container that it stands in
    pending: list[tuple[Any, int, Any, Any, str, Any]] = [(value, 0, result, 0, "", None)]
    while pending:
        item, depth, target, key_or_index, label, container = pending.pop()
        if isinstance(item, Mapping | list | tuple) and depth > _DEEPEST:
            target[key_or_index] = TOO_DEEP
        elif isinstance(item, Mapping):
            target[key_or_index] = copy = {}
            for key, child in item.items():
                text = key if isinstance(key, str) else str(key)
                is_replaced, replacement = member(text, child) if member is not None else (False, None)
                copied_name = text if name is None else name(text)
                copy[copied_name] = replacement  # keeps the order of the members; the value itself may follow
                if not is_replaced:
                    pending.append((child, depth + 1, copy, copied_name, text, item))
        elif isinstance(item, list | tuple):
            target[key_or_index] = entries = [None] * len(item)
            pending.extend((child, depth + 1, entries, index, "", item) for index, child in enumerate(item))
        else:
            target[key_or_index] = item if leaf is None else leaf(item, label, container)
    return result[0]


def mask_strings(value: Any, mask: Callable[[str], str]) -> Any:
    """A copy of a JSON value whose strings, and names of members, went through ``mask``."""

    def leaf(item: Any, *_: Any) -> Any:
        return mask(item) if isinstance(item, str) else item

    return map_json(value, leaf=leaf, name=mask)
