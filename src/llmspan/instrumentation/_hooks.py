"""Patching, as a table: which attribute of which class is replaced by what, and how it is put back.

Nothing here imports an SDK: a provider's patches are applied when the application has imported the module that they
belong to, or at once if it has already. ``remove`` restores every attribute exactly; where somebody else has patched
on top of us, theirs stays and ours turns into a mere pass-through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import wrapt

from .._guard import guarded

Wrap = Callable[[Any], Any]


class Patch(NamedTuple):
    """Replace ``owner.name`` by ``wrap(its value)``."""

    owner: Any
    name: str
    wrap: Wrap


class Patches:
    """The patches of one provider: applied once, removed once."""

    def __init__(self) -> None:
        self._applied: list[tuple[Any, str, Any, Any]] = []

    def apply(self, table: Iterable[Patch]) -> None:
        """Apply a table; an attribute that is not there (an older SDK) is passed over."""
        for owner, name, wrap in table:
            original = vars(owner).get(name)
            if original is not None:
                replacement = wrap(original)
                setattr(owner, name, replacement)
                self._applied.append((owner, name, original, replacement))

    def remove(self) -> None:
        """Put the originals back."""
        while self._applied:
            owner, name, original, replacement = self._applied.pop()
            if vars(owner).get(name) is replacement:
                setattr(owner, name, original)


def when_imported(module: str, function: Callable[[Any], None]) -> None:
    """Call ``function(module)`` after ``module`` is imported, or now if it already is. Cannot be taken back."""

    def run(imported: Any) -> None:
        guarded(f"hooks.{module}", function, imported)

    wrapt.register_post_import_hook(run, module)
