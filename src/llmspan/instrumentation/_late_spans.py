"""Spans that another instrumentation opens when the call is over: they stay, less the usage, which ours has.

OpenLLMetry's wrapper around openai's Responses starts its span once the response is there, and only if it is a
completed one, so there is none that a call could use. The call has a span of ours; the usage is kept off the other one,
or every sum over spans would count the call twice. All else that it says of the call stays. Nor does an exporter make a
second record of it. See docs/decisions/0033.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

import wrapt

from ._bound import bind

_MODULE: Final = "opentelemetry.instrumentation.openai.v1.responses_wrappers"
_USAGE: Final = ("gen_ai.usage.", "llm.usage.")
_DEEPEST: Final = 250
_REMEMBERED: Final = 1_000

#: wrappers whose call has its span; by the frame, which others may be at later, and the time of its start
_counted: Final[OrderedDict[tuple[int, int], None]] = OrderedDict()


def keep_usage_off_late_span() -> None:
    """Have the span that the wrapper around this call opens afterwards carry no usage; nothing if there is none."""
    if _MODULE not in sys.modules:
        return
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    for _ in range(_DEEPEST):
        if frame is None:
            return
        if frame.f_globals.get("__name__") == _MODULE and "tracer" in frame.f_code.co_varnames:
            _watch(frame)
            return
        frame = frame.f_back


def _watch(frame: FrameType) -> None:
    tracer, key = frame.f_locals.get("tracer"), _key(frame)
    if tracer is None or key is None:
        return
    _counted[key] = None
    if len(_counted) > _REMEMBERED:
        _counted.popitem(last=False)
    if not isinstance(vars(tracer).get("start_span"), _StartSpan):
        tracer.start_span = _StartSpan(tracer.start_span)


def _key(frame: FrameType) -> tuple[int, int] | None:
    started = frame.f_locals.get("start_time")
    return (id(frame), started) if isinstance(started, int) else None


class _StartSpan:
    """A tracer's ``start_span``: a span that is started by a wrapper whose call has its span takes no usage."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        span = self._original(*args, **kwargs)
        key = _key(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if key is None or _counted.pop(key, _counted) is _counted:
            return span
        bind(span.get_span_context())
        return _WithoutUsage(span)


class _WithoutUsage(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument]
    """A span that takes every attribute but token counts."""

    def set_attribute(self, key: str, value: Any) -> None:
        if not key.startswith(_USAGE):
            self.__wrapped__.set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        kept = {key: value for key, value in attributes.items() if not key.startswith(_USAGE)}
        self.__wrapped__.set_attributes(kept)
