"""Functions that run whenever a module is imported: the first time, and each time that it is imported again.

wrapt's post-import hooks run once. A program that removes an SDK from ``sys.modules`` and imports it again (test
suites, reloading servers, notebooks) gets new classes, which have to be patched as well.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, cast

import wrapt

from .._guard import guarded

OnImport = Callable[[Any], None]


def when_imported(module: str, function: OnImport) -> Callable[[], None]:
    """Call ``function(module)`` each time that ``module`` is imported, and now if it already is.

    Returns a function that cancels this.
    """
    _finder.watch(module, function)
    imported = sys.modules.get(module)
    if imported is not None:
        _notify(function, imported)
    return lambda: _finder.forget(module, function)


class _Finder(MetaPathFinder):
    """Finds modules by the other finders, and calls the functions of a module when it has been executed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[str, tuple[OnImport, ...]] = {}
        self._searching = threading.local()

    def watch(self, module: str, function: OnImport) -> None:
        with self._lock:
            self._watched = {**self._watched, module: (*self._watched.get(module, ()), function)}
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def forget(self, module: str, function: OnImport) -> None:
        with self._lock:
            remaining = tuple(other for other in self._watched.get(module, ()) if other != function)
            self._watched = {**self._watched, module: remaining}
            if not remaining:
                del self._watched[module]
            if not self._watched and self in sys.meta_path:
                sys.meta_path.remove(self)

    def executed(self, module: ModuleType) -> None:
        for function in self._watched.get(module.__name__, ()):
            _notify(function, module)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._watched or getattr(self._searching, "name", None) == fullname:
            return None
        self._searching.name = fullname  # finders like this one call all finders, including this one
        try:
            spec = self._find_elsewhere(fullname, path, target)
        finally:
            self._searching.name = None
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = cast("Any", _Loader(spec.loader))
        return spec

    def _find_elsewhere(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find is not None and finder is not self else None
            if spec is not None:
                return spec
        return None


class _Loader(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument] - wrapt 1.x is not generic
    """A module's own loader, which also calls the functions of the module once it has executed it."""

    def exec_module(self, module: ModuleType) -> None:
        loader = self.__wrapped__
        if getattr(module, "__loader__", None) is self:
            module.__loader__ = loader
        spec: Any = module.__spec__
        if spec is not None and spec.loader is self:
            spec.loader = loader
        loader.exec_module(module)
        _finder.executed(module)


_finder: Final = _Finder()


def _notify(function: OnImport, module: ModuleType) -> None:
    guarded(f"hooks.{module.__name__}", function, module)
