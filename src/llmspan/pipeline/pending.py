"""What the pipeline accepts: calls whose record is built later, on the worker.

A call that llmspan observed builds its own record; :class:`PrebuiltRecord` is for records that come from spans of other
instrumentations, from the program itself, or from a sender of the sidecar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from ..content import Policy
from ..trace import ProviderTrace

_FLAT_SIZE = 2048


class Pending(Protocol):
    """A call whose record is still to be built."""

    @property
    def size(self) -> int:
        """The bytes of memory that it holds."""
        ...

    def build(self) -> ProviderTrace:
        """Build the record; slow."""
        ...

    def drop_payload(self) -> None:
        """Drop the payload."""
        ...


class PrebuiltRecord:
    """A record whose payload is still as it came; ``make`` may be slow, ``size`` is the payload's, in bytes."""

    def __init__(self, make: Callable[[], ProviderTrace], policy: Policy, size: int) -> None:
        self._make = make
        self._policy = policy
        self._size = size

    @property
    def size(self) -> int:
        """The bytes that it holds on to."""
        return _FLAT_SIZE + self._size

    def build(self) -> ProviderTrace:
        """The record as stores get it: what of it is kept, and nothing that has to be masked."""
        return self._policy.kept(self._make())

    def drop_payload(self) -> None:
        """Let go of the payload, keeping what is known about it."""
        content = "truncated" if self._policy.keep else "metadata"
        brief = replace(self._make(), request_json=None, response_json=None, content=content)
        self._make = lambda: brief
        self._size = 0
