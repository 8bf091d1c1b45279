"""Masks in the values that a program gives beside its calls: ``attributes``, ``llm_config``, ``billing_context``.

Members that are credentials by their name go; so do the credentials of URLs, vendors' keys, and the credentials in a
text that is JSON. These values are settings, not a conversation, and they go on spans.
"""

from __future__ import annotations

from typing import Any

from .credentials import is_masked_member
from .json_text import has_credential_members, mask_json_text
from .patterns import MASK, mask_keys, mask_names, may_hold_key
from .values import map_json

__all__ = ["mask_context"]


def mask_context(value: Any) -> Any:
    """A copy of a JSON value without credentials."""
    return map_json(value, leaf=_leaf, name=mask_names, member=_member)


def _member(name: str, item: Any) -> tuple[bool, Any]:
    return is_masked_member(name, item), MASK


def _leaf(item: Any, *_: Any) -> Any:
    if not isinstance(item, str):
        return item
    if item[:1] in ("{", "[") and has_credential_members(item):
        item = mask_json_text(item, members=True)
    return mask_keys(item) if may_hold_key(item) else item
