"""Every place of the package that is guarded, found in its code, and a way to make each of them raise."""

from __future__ import annotations

import ast
import functools
import importlib.util
import pkgutil
from collections.abc import Callable
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import llmspan
from llmspan import _guard
from llmspan.pipeline.backend_worker import BackendWorker

#: the functions that run others and swallow what they raise
GUARDS = ("guarded", "guarded_on_worker")
#: rooms that no call to a provider comes by: processes and senders of their own, and the end of the process
_BESIDE = ("llmspan.cli", "llmspan.otlp", "llmspan.pipeline.shutdown_hooks", "llmspan.sidecar")

#: places that note what they have caught themselves -> what raises there
NOTED = {
    "content.redact": ("llmspan.redaction.Redactor.__call__", lambda *_: _raising(RuntimeError)()),
    "pipeline.delivery": (
        "llmspan.pipeline.backend_worker.BackendWorker._step",
        lambda worker: _fails_once(worker),
    ),
    "pipeline.worker": ("llmspan.pipeline.Pipeline._build_record", lambda *_: _raising(RuntimeError)()),
}


def sites() -> dict[str, set[str]]:
    """Each guarded place in the package, by its name (``*`` for what varies) -> the modules that it is in."""
    found: dict[str, set[str]] = {}
    for info in pkgutil.walk_packages(llmspan.__path__, "llmspan."):
        if info.name.startswith("llmspan._guard") or info.name.endswith("__main__"):
            continue
        source = importlib.util.find_spec(info.name).origin  # type: ignore[union-attr]
        for node in ast.walk(ast.parse(Path(source or "").read_text())):
            if isinstance(node, ast.Call) and (place := _place(node)):
                found.setdefault(place, set()).add(info.name)
    return found


def _place(call: ast.Call) -> str | None:
    """The place that a call to the guard names, directly or by ``partial``."""
    names = [word.id for word in (call.func, *call.args[:1]) if isinstance(word, ast.Name)]
    called = call.func.attr if isinstance(call.func, ast.Attribute) else names[0] if names else ""
    if not (called in (*GUARDS, "report_internal_error") or (called == "partial" and "guarded" in names)):
        return None
    for word in call.args:
        if isinstance(word, ast.Constant) and isinstance(word.value, str):
            return word.value
        if isinstance(word, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else "*" for part in word.values)
    return None


SITES = sites()
#: the places that a call to a provider may come by, and the others
ON_THE_WAY = {place for place, rooms in SITES.items() if not all(room.startswith(_BESIDE) for room in rooms)}
BESIDE = SITES.keys() - ON_THE_WAY
_STEP = BackendWorker._step


class FaultError(Exception):
    """What our hooks are made to raise."""


def break_place(place: str, when: str, monkeypatch: pytest.MonkeyPatch, *, only_first: bool = False) -> None:
    """Make the function that is guarded at ``place`` raise, ``at once`` or ``at its end``; each time, or the first."""
    if place in NOTED:
        monkeypatch.setattr(*NOTED[place])
        return
    come_by: list[str] = []

    def guarded(guard: str, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def broken(*args: Any, **kwargs: Any) -> None:
            if when == "at its end":
                function(*args, **kwargs)
            raise FaultError(place)

        is_here = fnmatch(name, place)
        is_broken = is_here and not (only_first and come_by)
        come_by.extend([name] * is_here)
        return getattr(_guard, guard)(name, broken if is_broken else function, *args, **kwargs)

    for module, guard in product(SITES[place], GUARDS):
        if hasattr(importlib.import_module(module), guard):
            monkeypatch.setattr(f"{module}.{guard}", functools.partial(guarded, guard))


def internal_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The places that were told to be broken, each with a traceback, in their order in the log."""
    lines = [record for record in caplog.records if record.name == "llmspan" and "internal error" in record.message]
    assert all(record.exc_info for record in lines)
    return [str(record.args[0]) for record in lines if isinstance(record.args, tuple)]


def _fails_once(delivery: BackendWorker) -> None:
    delivery._step = functools.partial(_STEP, delivery)  # type: ignore[method-assign]
    raise RuntimeError("broken for a test")


def _raising(kind: type[Exception]) -> Callable[..., None]:
    def raising(*_: Any) -> None:
        raise kind("broken for a test")

    return raising
