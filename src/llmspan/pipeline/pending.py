"""Records that are submitted as they are: from spans of other instrumentations, or from the program itself.

A call that llmspan has observed submits itself; see :mod:`llmspan.sink` for what the two have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..content import ContentPolicy
from ..trace import ProviderTrace

_FLAT_SIZE = 2048


class PrebuiltRecord:
    """A record whose payload is still as it came; ``make`` may be slow, ``size`` is the payload's, in bytes."""

    def __init__(self, make: Callable[[], ProviderTrace], policy: ContentPolicy, size: int) -> None:
        self._make = make
        self._policy = policy
        self._size = size

    @property
    def size(self) -> int:
        """The bytes that it holds on to."""
        return _FLAT_SIZE + self._size

    def build(self) -> ProviderTrace:
        """The record as stores get it: what of it is kept, and nothing that has to be masked."""
        return self._policy.apply_to_record(self._make())

    def publish(self, record: ProviderTrace) -> None:
        """Nothing: whoever observed the call has reported its metrics and events."""

    def drop_payload(self) -> None:
        """Let go of the payload, keeping what is known about it."""
        content = "truncated" if self._policy.keep else "metadata"
        brief = replace(self._make(), request_json=None, response_json=None, content=content)
        self._make = lambda: brief
        self._size = 0
