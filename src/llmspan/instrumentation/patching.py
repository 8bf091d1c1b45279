"""Patches, as a table: which attribute of which class is replaced, by what, and how it is restored.

``remove`` restores every attribute exactly. If another instrumentation has patched it after us, its wrapper stays and
ours only passes calls on. References to what is patched are weak: a module that is imported again has new classes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

Wrap = Callable[[Any], Any]

#: the attribute of a replacement that has the original. A table of originals would keep their modules alive
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
    """The patches of one provider: applied once for each import of their module, and removed once."""

    def __init__(self) -> None:
        self._applied: list[_Applied] = []

    def apply(self, table: Iterable[Patch]) -> None:
        """Apply a table; an attribute that does not exist (in an older SDK) is skipped."""
        self._applied = [patch for patch in self._applied if patch.owner() is not None]
        for owner, name, wrap in table:
            original = vars(owner).get(name)
            if original is None or any(patch.replacement() is original for patch in self._applied):
                continue  # missing, or patched already: a module may be reported while it is imported
            # by attribute access, not from the class's dictionary: a wrapt wrapper must know that it is a method
            replacement = wrap(getattr(owner, name))
            setattr(replacement, _ORIGINAL, original)
            setattr(owner, name, replacement)
            self._applied.append(_Applied(weakref.ref(owner), name, weakref.ref(replacement)))

    def remove(self) -> None:
        """Restore the originals."""
        while self._applied:
            patch = self._applied.pop()
            owner, replacement = patch.owner(), patch.replacement()
            if owner is not None and replacement is not None and vars(owner).get(patch.name) is replacement:
                setattr(owner, patch.name, getattr(replacement, _ORIGINAL))
