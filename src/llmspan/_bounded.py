"""Mappings that keep the last N entries: whoever adds one drops the oldest beyond the limit by this function."""

from __future__ import annotations

from itertools import islice
from typing import Any

__all__ = ["drop_oldest"]


def drop_oldest(mapping: dict[Any, Any], limit: int) -> None:
    """Remove the entries of ``mapping`` that were added first, until it has at most ``limit``."""
    if len(mapping) > limit:
        for key in list(islice(mapping, len(mapping) - limit)):
            mapping.pop(key, None)  # another thread may be at it
