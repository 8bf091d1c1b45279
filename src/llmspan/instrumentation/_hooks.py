"""Patching, as a table: which attribute of which class is replaced by what, and how it is put back.

``remove`` restores every attribute exactly; where somebody else has patched on top of us, theirs stays and ours turns
into a mere pass-through. What is patched is held weakly: a module that is imported anew leaves classes behind.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

Wrap = Callable[[Any], Any]

#: where a replacement keeps what it stands for. Kept here instead, it would hold on to the module that it is of
_ORIGINAL: Final = "_llmspan_original"


class Patch(NamedTuple):
    """Replace ``owner.name`` by ``wrap(its value)``."""

    owner: Any
    name: str
    wrap: Wrap


class _Applied(NamedTuple):
    owner: weakref.ref[Any]
    name: str
    replacement: weakref.ref[Any]


class Patches:
    """The patches of one provider: applied once for each import of what they are for, removed once."""

    def __init__(self) -> None:
        self._applied: list[_Applied] = []

    def apply(self, table: Iterable[Patch]) -> None:
        """Apply a table; an attribute that is not there (an older SDK) is passed over."""
        self._applied = [patch for patch in self._applied if patch.owner() is not None]
        for owner, name, wrap in table:
            original = vars(owner).get(name)
            if original is None or any(patch.replacement() is original for patch in self._applied):
                continue  # not there, or patched already: a module may be reported while it is being imported
            # by attribute access, not from the class's dictionary: a wrapt wrapper then knows that it is a method
            replacement = wrap(getattr(owner, name))
            setattr(replacement, _ORIGINAL, original)
            setattr(owner, name, replacement)
            self._applied.append(_Applied(weakref.ref(owner), name, weakref.ref(replacement)))

    def remove(self) -> None:
        """Put the originals back."""
        while self._applied:
            patch = self._applied.pop()
            owner, replacement = patch.owner(), patch.replacement()
            if owner is not None and replacement is not None and vars(owner).get(patch.name) is replacement:
                setattr(owner, patch.name, getattr(replacement, _ORIGINAL))
