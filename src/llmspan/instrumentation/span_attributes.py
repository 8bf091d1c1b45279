"""Attributes of a span of the SDK, all at once: their values are plain, so the SDK need not look at each again.

To check and to store an attribute costs the SDK some 6,000 instructions; a span of ours has ten at its start, which its
caller waits for, and twenty at its end. What is set here is what the SDK would have set. Whatever is not as it is known
here (another class of tracers, samplers, spans or attributes, a limit that is reached) is left to the SDK.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Span as SDKSpan
from opentelemetry.sdk.trace import Tracer as SDKTracer
from opentelemetry.sdk.trace.sampling import ParentBased, ParentBasedTraceIdRatio, StaticSampler, TraceIdRatioBased
from opentelemetry.trace import Span, Tracer

from ..deferred_spans import deferred_spans

#: samplers that look at no attribute, and those that ask such ones
_LEAF_SAMPLERS: Final = frozenset({StaticSampler, TraceIdRatioBased})
_PARENT_SAMPLERS: Final = frozenset({ParentBased, ParentBasedTraceIdRatio})
#: the types of values that the SDK stores as they are; of a tuple, if all its items are texts
_PLAIN: Final = frozenset({str, int, float, bool})
_TUPLE: Final = frozenset({tuple})
_TEXT: Final = frozenset({str})
_NOTHING: Final[Mapping[str, Any]] = {}
_TRACE_MODULE: Final = SDKSpan.__module__
#: what the SDK's attributes are stored with; another version may have other members
_IS_KNOWN: Final = {"_dict", "_immutable", "_lock", "maxlen", "max_value_len"} <= vars(BoundedAttributes()).keys()


def start_span(tracer: Tracer, name: str, attributes: Mapping[str, Any], **options: Any) -> Span:
    """As ``tracer.start_span(name, attributes=attributes, **options)``."""
    if not _is_started_unseen(tracer):
        return tracer.start_span(name, attributes=attributes, **options)
    span = tracer.start_span(name, **options)
    if span.is_recording():
        set_attributes(span, attributes)
    return span


def _is_started_unseen(tracer: Any) -> bool:
    """Whether nobody looks at the attributes of a span when it starts: neither the sampler nor a processor."""
    if type(tracer) is not SDKTracer or not _is_of_sdk(tracer.start_span):
        return False
    if not _ignores_attributes(getattr(tracer, "sampler", None)):
        return False
    return deferred_spans.are_background(getattr(getattr(tracer, "span_processor", None), "_span_processors", None))


def _is_of_sdk(method: Any) -> bool:
    """Whether a method of the SDK is still its own: another tool may have replaced it to look at its arguments."""
    function = getattr(method, "__func__", method)
    return getattr(function, "__globals__", _NOTHING).get("__name__") == _TRACE_MODULE


def _ignores_attributes(sampler: object) -> bool:
    if type(sampler) in _PARENT_SAMPLERS:
        asked: Mapping[str, Any] | None = getattr(sampler, "__dict__", None)
        return bool(asked) and _LEAF_SAMPLERS.issuperset(map(type, asked.values()))
    return type(sampler) in _LEAF_SAMPLERS


def set_attributes(span: Span, attributes: Mapping[str, Any]) -> None:
    """As ``span.set_attributes(attributes)``, whose names are texts and not empty."""
    if not (_are_plain(attributes.values()) and _set_plain(span, attributes)):
        span.set_attributes(attributes)


def _are_plain(values: Collection[Any]) -> bool:
    unusual = {*map(type, values)} - _PLAIN
    if unusual and unusual <= _TUPLE:
        return _TEXT.issuperset(map(type, chain.from_iterable([value for value in values if type(value) is tuple])))
    return not unusual


def _set_plain(span: Any, attributes: Mapping[str, Any]) -> bool:
    """Set attributes that need no check; False if the span is not one that this can be done with."""
    if not _IS_KNOWN or not _is_of_sdk(span.set_attributes):
        return False
    stored, lock = getattr(span, "_attributes", None), getattr(span, "_lock", None)
    if type(stored) is not BoundedAttributes or stored.max_value_len is not None or lock is None:
        return False
    with lock:
        values = stored._dict
        has_room = stored.maxlen is None or len(values) + len(attributes) <= stored.maxlen
        if getattr(span, "_end_time", 0) is not None or stored._immutable or not has_room:
            return False
        with stored._lock:
            if values and not values.keys().isdisjoint(attributes):
                for name in values.keys() & attributes.keys():  # one that is set again comes last
                    del values[name]
            values.update(attributes)
    return True
