"""Values in span attributes: JSON text, levels by dots and numbers in names, and lists. Other values stay as they are.

Other instrumentations spread messages over many attributes, or write them as JSON text; ``span_import`` reads both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "as_mapping", "as_strings", "build_tree", "numbered_items", "parse_content", "parse_json", "parse_object",
    "without_empty",
]  # fmt: skip

Attributes = Mapping[str, Any]


def build_tree(attributes: Attributes, prefix: str) -> Any:
    """The attributes below ``prefix`` as one value; the dots in their names are levels, numbers are positions."""
    root: dict[str, Any] = {}
    for name, value in attributes.items():
        if not name.startswith(prefix):
            continue
        node = root
        *path, last = name.removeprefix(prefix).split(".")
        for step in path:
            below = node.setdefault(step, {})
            node = below if isinstance(below, dict) else node.setdefault(f"{step}.", {})
        node[last] = value
    return root


def numbered_items(value: Any) -> list[dict[str, Any]]:
    """The objects of a numbered level, in the order of their numbers."""
    if not isinstance(value, dict):
        return []
    numbered = sorted((int(key), item) for key, item in value.items() if key.isascii() and key.isdigit())
    return [item for _, item in numbered if isinstance(item, dict)]


def parse_json(value: Any) -> Any:
    """The value of JSON text; other values, and text that is not JSON, as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def parse_content(value: Any) -> Any:
    """Messages, instructions or tools of a span: JSON text, maps, or a list with the JSON text of each item."""
    value = parse_json(value)
    return [parse_json(item) for item in value] if isinstance(value, list | tuple) else value


def parse_object(value: Any) -> dict[str, Any]:
    """The object of JSON text; an empty one if it is none."""
    value = parse_json(value)
    return dict(value) if isinstance(value, Mapping) else {}


def as_mapping(value: Any) -> Attributes:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_strings(value: Any) -> tuple[str, ...]:
    """The items of a list as texts."""
    return tuple(str(item) for item in value) if isinstance(value, Sequence) and not isinstance(value, str) else ()


def without_empty(values: Mapping[str, Any], *, unless_only: Any = ()) -> dict[str, Any] | None:
    """``values`` without those that say nothing; None if none is left, or only those that are no content."""
    non_empty = {key: value for key, value in values.items() if value is not None and value != []}
    return non_empty if non_empty.keys() - set(unless_only) else None
