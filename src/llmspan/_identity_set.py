"""A set of objects of the program's by their identity: they need be neither hashable nor open to weak references.

It keeps an object alive only if no weak reference to it can be made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial

__all__ = ["IdentitySet"]


class IdentitySet:
    """See the module."""

    def __init__(self) -> None:
        self._references: dict[int, Callable[[], object]] = {}

    def __contains__(self, item: object) -> bool:
        reference = self._references.get(id(item))
        return reference is not None and reference() is item

    def add(self, item: object) -> None:
        """Remember ``item`` while it lives."""
        key = id(item)
        try:
            self._references[key] = weakref.ref(item, partial(self._discard, key))
        except TypeError:  # __slots__ without __weakref__
            self._references[key] = lambda: item

    def _discard(self, key: int, reference: weakref.ref[object]) -> None:
        if self._references.get(key) is reference:  # else another object has its place in memory by now
            del self._references[key]
