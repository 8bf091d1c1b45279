"""Spans of calls that are over, but whose last attributes the pipeline's worker sets before it ends them.

To read the reply and to set the attributes is half of what a call would wait for because of us. The worker reads the
same reply for the record anyway, a fifth of a second later at most. A span waits only where nobody can see the
difference: if all processors of its provider collect spans for an exporter that runs in the background
(:class:`BatchSpanProcessor`). To flush or to shut one of them down ends the spans that wait first. See decision 67.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from ._fork import ForkGroup
from ._guard import guarded
from ._native import allocate_lock, cooperative_sleep, get_ident, monotonic

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["SpanOwner", "accepts_deferred_spans", "deferred_spans"]

#: seconds that a flush waits for other threads to end spans, which takes far less than one
_MOST_SECONDS: Final = 5.0
#: types of our own processors that may get a span whenever it comes
_ACCEPTING: Final[set[type]] = set()


class SpanOwner(Protocol):
    """A call that is over and has a span to end."""

    def end_span(self) -> None:
        """Set the attributes of the span, and end it. Called once."""
        ...


def accepts_deferred_spans(processor: type) -> type:
    """Mark a class of span processors: it does not matter to it when it gets a span. A decorator."""
    _ACCEPTING.add(processor)
    return processor


class DeferredSpans:
    """See the module. One per process: :data:`deferred_spans`. Only a flush waits for another thread."""

    def __init__(self) -> None:
        #: the processors of the latest span, as their provider has them, and whether it could wait
        self._known: tuple[object, bool] = (None, False)
        self.after_fork_in_child()
        _instances.add(self)

    def after_fork_in_child(self) -> None:
        """In a forked child: the spans that wait are the parent's."""
        #: ``id(owner)`` -> the owner
        self._owners: dict[int, SpanOwner] = {}
        #: what is being ended: the thread that does so, and a lock that it releases afterwards, by ``id`` of the lock
        self._ending: dict[int, tuple[int, Any]] = {}

    def defer(self, span: Span | None, owner: SpanOwner) -> bool:
        """Leave the end of ``span`` to :meth:`end`, which gets the same ``owner``; False if it has to end now."""
        processors = getattr(getattr(span, "_span_processor", None), "_span_processors", None)
        # A program may replace its threads by greenlets at any time. Those have locks in their spans that no thread may
        # take.
        if processors is None or cooperative_sleep() is not None:
            return False
        can_wait = self.are_background(processors)
        if can_wait:
            self._owners[id(owner)] = owner
        return can_wait

    def are_background(self, processors: object) -> bool:
        """Whether it does not matter to these processors, as a provider has them, when they see a span and its values.

        Theirs is a tuple, and another one when a processor is added.
        """
        known = self._known
        if known[0] is not processors:
            known = self._known = processors, self._can_wait(processors)
        return known[1]

    def end(self, owner: object) -> None:
        """End the span that waits for ``owner``, if one does. It waits for no other thread, as callers do this, too."""
        if id(owner) in self._owners:
            self._end(id(owner))

    def end_all(self) -> None:
        """End all spans that wait at this moment, and wait for those that other threads are ending."""
        for key in list(self._owners):
            self._end(key)
        self._wait_for_others(monotonic() + _MOST_SECONDS)

    def _end(self, key: int) -> None:
        lock = allocate_lock()
        lock.acquire()
        self._ending[id(lock)] = get_ident(), lock  # before it waits no more: a flush finds it in one of the two
        try:
            owner = self._owners.pop(key, None)
            if owner is not None:  # no other thread was faster
                guarded("deferred_spans.end", owner.end_span)
        finally:
            self._ending.pop(id(lock), None)  # not there in a child that was forked meanwhile
            lock.release()

    def _wait_for_others(self, deadline: float) -> None:
        for thread, lock in list(self._ending.values()):
            if thread != get_ident() and lock.acquire(timeout=max(0.0, deadline - monotonic())):
                lock.release()

    def _can_wait(self, processors: object) -> bool:
        if not isinstance(processors, tuple):
            return False
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # slow to import, and imported if it is used

        batching: list[object] = []
        for processor in cast("tuple[object, ...]", processors):
            if type(processor) is BatchSpanProcessor:  # a subclass may look at a span when it gets it
                batching.append(processor)
            elif type(processor) not in _ACCEPTING:
                return False
        for processor in batching:
            self._end_before(processor, "force_flush")
            self._end_before(processor, "shutdown")
        return True

    def _end_before(self, processor: Any, name: str) -> None:
        """Have a method of one processor end the spans that wait before it does its own work."""
        original: Callable[..., Any] = getattr(processor, name)
        if getattr(original, "ends_deferred_spans", False):
            return

        @functools.wraps(original)
        def end_and_call(*args: Any, **kwargs: Any) -> Any:
            guarded("deferred_spans.flush", self.end_all)
            return original(*args, **kwargs)

        end_and_call.ends_deferred_spans = True  # type: ignore[attr-defined]
        setattr(processor, name, end_and_call)


_instances: Final = ForkGroup[DeferredSpans]()
deferred_spans: Final = DeferredSpans()
