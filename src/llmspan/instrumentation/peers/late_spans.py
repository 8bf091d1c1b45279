"""Spans that another instrumentation opens after the call: they stay, but without the usage, which our span has.

OpenLLMetry's wrapper around openai's Responses starts its span when the response is there, and only if that is
completed, so the call cannot use it and has a span of ours. Token counts are kept off the other span, or every sum over
spans would count the call twice; its other attributes stay. An exporter makes no second record of it.
See docs/decisions/0026.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

import wrapt

from ..._bounded import drop_oldest
from .recorded_spans import mark_recorded

_MODULE: Final = "opentelemetry.instrumentation.openai.v1.responses_wrappers"
_USAGE_PREFIXES: Final = ("gen_ai.usage.", "llm.usage.")
_MAX_FRAMES: Final = 250
_MAX_REMEMBERED: Final = 1_000

#: frames of wrappers whose call has a span of ours: the frame's id, which may be reused, and when the call started
_frames_with_span: Final[OrderedDict[tuple[int, int], None]] = OrderedDict()


def strip_usage_from_late_span() -> None:
    """Keep token counts off the span that the wrapper around this call opens afterwards, if there is a wrapper."""
    if _MODULE not in sys.modules:
        return
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return
        if frame.f_globals.get("__name__") == _MODULE and "tracer" in frame.f_code.co_varnames:
            _patch_tracer(frame)
            return
        frame = frame.f_back


def _patch_tracer(frame: FrameType) -> None:
    tracer, key = frame.f_locals.get("tracer"), _key(frame)
    if tracer is None or key is None:
        return
    _frames_with_span[key] = None
    drop_oldest(_frames_with_span, _MAX_REMEMBERED)
    if not isinstance(vars(tracer).get("start_span"), _StartSpan):
        tracer.start_span = _StartSpan(tracer.start_span)


def _key(frame: FrameType) -> tuple[int, int] | None:
    start_time = frame.f_locals.get("start_time")
    return (id(frame), start_time) if isinstance(start_time, int) else None


class _StartSpan:
    """A tracer's ``start_span``: returns a span without usage to a wrapper whose call has a span of ours."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        span = self._original(*args, **kwargs)
        key = _key(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if key is None or _frames_with_span.pop(key, _frames_with_span) is _frames_with_span:
            return span
        mark_recorded(span.get_span_context())
        return _WithoutUsage(span)


class _WithoutUsage(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument]
    """A span that ignores token counts and passes on all other attributes."""

    def set_attribute(self, key: str, value: Any) -> None:
        if not key.startswith(_USAGE_PREFIXES):
            self.__wrapped__.set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        without_usage = {key: value for key, value in attributes.items() if not key.startswith(_USAGE_PREFIXES)}
        self.__wrapped__.set_attributes(without_usage)
