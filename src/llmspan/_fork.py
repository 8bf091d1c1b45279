"""Forks: what holds locks, threads or connections hears of them here, and no other module registers for them.

Objects join the group of their class, which keeps none of them alive. A child has copies of the parent's locks as they
were and none of its threads, so what runs in it may only replace things: it waits for nothing and closes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar, runtime_checkable
from weakref import WeakValueDictionary

__all__ = ["ForkGroup", "after_fork_in_child"]

T = TypeVar("T", bound="Forkable")


class Forkable(Protocol):
    """What replaces, in a child, what cannot be shared with its parent."""

    def after_fork_in_child(self) -> None: ...


@runtime_checkable
class Pausable(Protocol):
    """What also rests while its process forks."""

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...


class ForkGroup(Generic[T]):
    """The objects of a class that are alive; each hears of every fork."""

    def __init__(self) -> None:
        # by identity; a WeakSet waits for nobody either, but may call the objects' own `__eq__`
        self._members: WeakValueDictionary[int, T] = WeakValueDictionary()
        os.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._after_fork_in_parent,
            after_in_child=self._after_fork_in_child,
        )

    def add(self, member: T) -> None:
        """From now on, for as long as it lives, ``member`` hears of forks."""
        self._members[id(member)] = member

    def __iter__(self) -> Iterator[T]:
        return (member for reference in self._members.valuerefs() if (member := reference()) is not None)

    def _before_fork(self) -> None:
        for member in self:
            if isinstance(member, Pausable):
                member.before_fork()

    def _after_fork_in_parent(self) -> None:
        for member in self:
            if isinstance(member, Pausable):
                member.after_fork_in_parent()

    def _after_fork_in_child(self) -> None:
        for member in self:
            member.after_fork_in_child()


def after_fork_in_child(function: Callable[[], None]) -> None:
    """Call ``function`` in every child, as long as the process runs."""
    os.register_at_fork(after_in_child=function)
