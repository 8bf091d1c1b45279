"""The queue of spans that have ended and are not looked at yet: bounded in number and bytes, the oldest go first.

Appending never waits, and may happen in any thread, in a finaliser or a signal handler. It needs no worker that reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from sys import getsizeof
from types import MappingProxyType
from typing import Any, Final, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan

from ._native import SerialExecutor

__all__ = ["EndedSpans"]

_FLAT_SIZE: Final = 1024
#: a number, or an empty container, with its place
_VALUE_SIZE: Final = 32
_DEEPEST: Final = 8
_COPIED: Final = (MappingProxyType, BoundedAttributes)


class EndedSpans:
    """See the module."""

    def __init__(self, most_items: int, most_bytes: int) -> None:
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._state = SerialExecutor()
        self._spans: deque[tuple[ReadableSpan, int]] = deque()
        #: what the spans hold on to, roughly
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._spans)

    def append(self, span: ReadableSpan) -> None:
        """Take a span, and drop the oldest as far as room is needed. The newest stays, however large it is."""
        self._state.execute(partial(self._admit, span, _span_size(span)))

    def _admit(self, span: ReadableSpan, size: int) -> None:
        self._spans.append((span, size))
        self.bytes += size
        while len(self._spans) > self._most_items or (self.bytes > self._most_bytes and len(self._spans) > 1):
            self.bytes -= self._spans.popleft()[1]

    def take_all(self) -> deque[tuple[ReadableSpan, int]]:
        """The spans that have come since the last time, each with its size. On the worker."""
        with self._state:
            spans, self._spans = self._spans, deque()
            self.bytes = 0
        return spans


def _span_size(span: ReadableSpan) -> int:
    size = _FLAT_SIZE + _attributes_size(span.attributes)
    for part in (*span.events, *span.links):
        size += _FLAT_SIZE // 4 + _attributes_size(part.attributes)
    return size


def _attributes_size(attributes: Mapping[str, Any] | None) -> int:
    if not attributes:
        return 0
    # A copy, as the SDK's mapping takes a lock for each member. Whoever ends a span waits for this.
    values: Collection[Any] = attributes.copy().values() if isinstance(attributes, _COPIED) else attributes.values()
    return sum([getsizeof(value) if type(value) is str else _value_size(value) for value in values])


def _value_size(value: Any, depth: int = 0) -> int:
    """The bytes of an attribute's value: of a text and of numbers in constant time."""
    if isinstance(value, (str, bytes)):
        return getsizeof(value)
    if isinstance(value, (int, float)) or depth > _DEEPEST:
        return _VALUE_SIZE
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return _VALUE_SIZE + sum(getsizeof(name) + _value_size(members[name], depth + 1) for name in members)
    if isinstance(value, Sequence):
        return _VALUE_SIZE + _items_size(cast("Sequence[Any]", value), depth + 1)
    return _VALUE_SIZE


def _items_size(items: Sequence[Any], depth: int) -> int:
    # As a rule the items are of one type. An embedding has thousands.
    first = items[0] if items else None
    if isinstance(first, (int, float)) and isinstance(items[-1], (int, float)):
        return len(items) * _VALUE_SIZE
    return sum([getsizeof(item) if type(item) is str else _value_size(item, depth) for item in items])
