"""The context in which the program asked for a stream: the SDK sends nothing before the first event is read.

By then another span may be current, and another step. The context is kept with the SDK's own generator, which the
program gets unchanged, and found again by the frames that lead to the request: one of them is the generator's.
"""

from __future__ import annotations

import sys
import weakref
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, Final

#: frames between the generator that the program reads and the request that it leads to
_MAX_FRAMES: Final = 24
#: where the SDK runs the program's tools: a request below is one that a tool makes, in the tool's own context
_TOOLS: Final = "google.genai._extra_utils"
_TOOL_CALLERS: Final = frozenset({"get_function_response_parts", "get_function_response_parts_async"})
#: ``id`` of a generator's frame -> the generator, and the context in which the program asked for it
_contexts: Final[dict[int, tuple[weakref.ref[Any], Context]]] = {}


def keep_context(generator: Any) -> None:
    """Keep the current context with ``generator``."""
    frame = _frame_of(generator)
    if frame is not None:
        key = id(frame)
        _contexts[key] = weakref.ref(generator, lambda _: _contexts.pop(key, None)), copy_context()


def context_of_caller() -> Context | None:
    """The context that is kept with the generator that this runs in; None if it runs in none of them.

    A chat's generator reads from one of the models': the outer one is the program's.
    """
    if not _contexts:
        return None
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    for _ in range(_MAX_FRAMES):
        if frame is None or (frame.f_code.co_name in _TOOL_CALLERS and frame.f_globals.get("__name__") == _TOOLS):
            return None
        context = _context_of(frame)
        if context is not None:
            return (_context_of(frame.f_back) if frame.f_back is not None else None) or context
        frame = frame.f_back
    return None


def _context_of(frame: FrameType) -> Context | None:
    entry = _contexts.get(id(frame))
    return entry[1] if entry is not None and _frame_of(entry[0]()) is frame else None


def _frame_of(generator: Any) -> FrameType | None:
    return getattr(generator, "gi_frame", None) or getattr(generator, "ag_frame", None)
