"""Mappings that keep the last N entries: whoever adds one drops the oldest beyond the limit by this function."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ["drop_oldest"]


def drop_oldest(mapping: OrderedDict[Any, Any], limit: int) -> None:
    """Remove the entries of ``mapping`` that were added first, until it has at most ``limit``."""
    while len(mapping) > limit:
        mapping.popitem(last=False)
