"""One call to a provider, from the request to its one end, whichever of the many ways it ends.

``finish`` happens exactly once, on whatever thread gets there first, and never blocks. Ends that a garbage-collection
finaliser reports are only handed over, to a thread of the sink: ending a span sets context variables, and doing that
inside a finaliser can crash CPython 3.11 (python/cpython#148891). A call refers to neither response nor stream, so
that dropping those stays prompt.
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import perf_counter_ns, time_ns
from typing import Any, Literal, NamedTuple, Protocol

from opentelemetry.trace import Span, SpanContext

from .._guard import guarded
from ..content import Policy
from ..scope import Scope
from ..semconv import SpanFacts
from ..trace import ProviderTrace
from ._body import Body
from ._causes import Cause, causes_of
from ._upload import Upload

id_of = id  # the builtin, beside an attribute of that name

#: what stands for this process: another object in a forked child (asking the system costs more)
_process: list[object] = [object()]


def _after_fork() -> None:
    _process[0] = object()


os.register_at_fork(after_in_child=_after_fork)

End = Literal["returned", "exhausted", "closed", "dropped", "raised"]


class Pending(Protocol):
    """A record in the making, as a sink sees it."""

    @property
    def size(self) -> int:
        """The bytes that it holds on to."""
        ...

    def build(self) -> ProviderTrace:
        """The record. Slow (parses and reassembles), pure, and meant for a worker."""
        ...

    def drop_payload(self) -> None:
        """Let go of the payload, keeping what is known about it: there is no room."""
        ...


class Sink(Protocol):
    """Where finished calls go. No method may block or raise."""

    def ensure_started(self) -> None:
        """Be ready for :meth:`defer`, which cannot start anything itself."""
        ...

    def submit(self, pending: Pending, /) -> None:
        """Take a finished call."""
        ...

    def defer(self, function: Callable[[], None], /) -> None:
        """Run ``function`` soon, on a thread of the sink's; safe to call from a finaliser."""
        ...


class Route(NamedTuple):
    """What kind of call a URL stands for."""

    operation: str
    api: str


class Target(NamedTuple):
    """Whom a client talks to."""

    provider: str
    address: str | None
    port: int | None
    sdk: str


#: the texts of request and response, and what ``content`` says of them, as a policy has them
Texts = Callable[[Policy], tuple[str | None, str | None, Any]]


class Raised(NamedTuple):
    """What is kept of an exception. Itself would keep its traceback, and with it the caller's frames and stream."""

    kind: type[BaseException]
    message: str = ""
    #: what the provider said, as the SDK's exceptions carry it (``APIStatusError.body``, ``APIError.body``)
    body: Any = None
    #: the HTTP status that it stands for (``APIStatusError.status_code``)
    status: int | None = None
    #: the exceptions behind it, where no answer of the provider says more
    causes: tuple[Cause, ...] = ()

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """The facts of ``error``."""
        status = getattr(error, "status_code", None)
        status = status if isinstance(status, int) else None
        causes = causes_of(error) if status is None else ()
        return cls(type(error), str(error), getattr(error, "body", None), status, causes)


class Results(Protocol):
    """What becomes of a response that holds the results of many requests."""

    def new_body(self, encoding: str, client: str, /) -> Body:
        """What collects its bytes: of a content coding that ``client`` (httpx or httpx2) undoes."""
        ...

    def conclude(self, call: Call, /) -> None:
        """Hand over what is left, and ``call`` behind it."""
        ...

    def overview(self) -> Any:
        """What the call itself answered, less the results."""
        ...


class Judge(Protocol):
    """Who turns a finished call into a span's end and a record (the observer)."""

    @property
    def sink(self) -> Sink: ...

    @property
    def policy(self) -> Policy: ...

    @property
    def stamps_all(self) -> bool: ...

    @property
    def open_calls(self) -> dict[int, Call]: ...

    @property
    def results_told(self) -> OrderedDict[str, int]:
        """Batch id -> how many of its results metrics and events have told of."""
        ...

    @property
    def background_owners(self) -> OrderedDict[str, str]:
        """Id of a background response -> id of the call that carries its usage."""
        ...

    def conclude(self, call: Call, /) -> None:
        """End the span and hand the call to the sink."""
        ...

    def brief(self, call: Call, /) -> ProviderTrace:
        """The record without payload."""
        ...

    def full(self, call: Call, /) -> ProviderTrace:
        """The whole record, or the brief one of a call that had to let go of its payload."""
        ...

    def tell(self, record: ProviderTrace, call: Call, texts: Texts, /, *, is_timed: bool = True) -> None:
        """Make the metrics and the event of a record that belongs to ``call``."""
        ...


class Call:
    """The state of one call. Attributes are set by the hooks; ``_record`` reads them once it is over."""

    __slots__ = (
        "__weakref__", "_generator", "_process", "attempts", "body", "brief", "conversation_id", "end", "ended",
        "error", "has_native_span", "headers", "hides", "http_status", "id", "is_adopted", "is_payload_dropped",
        "judge", "model", "options", "parameters", "parent", "path", "request", "response_id", "results", "route",
        "scope", "source", "span", "span_context", "span_facts", "started", "started_at", "stream", "target",
        "upload",
    )  # fmt: skip

    def __init__(self, *, id: str, route: Route, target: Target, judge: Judge) -> None:  # noqa: A002
        self.id = id
        self.route = route
        self.target = target
        self.judge = judge
        self.started_at = time_ns()
        self.started = perf_counter_ns()
        self.ended = 0
        self.end: End = "returned"
        self.error: Raised | None = None
        self.attempts = 0
        #: an httpx request, or the bytes of a message
        self.request: Any = None
        self.path = ""
        self.upload: Upload | None = None
        self.results: Results | None = None
        self.headers: Any = None
        self.http_status: int | None = None
        self.body: Body | None = None
        self.span: Span | None = None
        self.span_context: SpanContext | None = None
        self.parent: SpanContext | None = None
        self.scope: Scope | None = None
        self.source: str | None = None
        self.model: str | None = None
        self.conversation_id: str | None = None
        #: of a response that is fetched, as its URL has it
        self.response_id: str | None = None
        self.stream = False
        #: the attributes of the request's parameters
        self.parameters: Mapping[str, Any] = {}
        #: what is known of the response and has no place in the record
        self.span_facts = SpanFacts()
        #: those of the request, until it has returned or raised
        self.options: Any = None
        self.hides: Callable[[Any], object] | None = None
        self.brief: ProviderTrace | None = None
        self.is_adopted = False
        #: whether the SDK makes a span of its own for the call, beside ours, and sees to what is current
        self.has_native_span = False
        self.is_payload_dropped = False
        self._generator: weakref.ref[Any] | None = None
        self._process = _process[0]
        judge.open_calls[id_of(self)] = self

    def new_body(self, encoding: str, client: str = "httpx2") -> Body:
        """What is to collect the bytes of the response that counts from now on."""
        if self.results is not None:
            body = self.results.new_body(encoding, client)
        else:
            body = Body(max(4 * self.judge.policy.max_bytes, 1 << 20), encoding, client)
        self.body = body
        return body

    @property
    def sent(self) -> bytes | None:
        """The request's bytes as they were sent; None if it was never built or is a stream (file uploads)."""
        content = self.request if isinstance(self.request, bytes) else getattr(self.request, "_content", None)
        return content if isinstance(content, bytes) and content else None

    @property
    def media_type(self) -> str:
        """The response's content type, as far as it is known."""
        return (self.headers.get("content-type") if self.headers is not None else None) or ""

    # -- what the hooks report ------------------------------------------------------------------------------------

    def noted(self, response: Any) -> None:
        """A response arrived. Keeps its headers and, if it has been read already, its content."""
        self.http_status = response.status_code
        self.headers = response.headers
        if response.is_closed:
            self.body = Body.whole(response.content)

    def watched_by(self, generator: Any) -> None:
        """The generator that hands events to the caller; while it runs, it decides how the call ends."""
        self._generator = weakref.ref(generator)

    @property
    def is_watched(self) -> bool:
        """Whether a generator hands this call's events on."""
        return self._generator is not None

    def returned(self) -> None:
        """The whole response was handed to the caller."""
        self._finish("returned")

    def exhausted(self) -> None:
        """The caller has got the last event."""
        self._finish("exhausted")

    def failed(self, error: BaseException | Raised) -> None:
        """The caller is getting ``error``."""
        self._finish("raised", error)

    def abandoned(self) -> None:
        """A generator was closed, by the caller or by the garbage collector: no way to tell, so hand over."""
        self._finish("dropped", late=True)

    def body_read(self, body: Body) -> None:
        """The bytes were read to their end."""
        if self._decides(body):
            self._finish("exhausted", late=self._is_finalised)

    def body_failed(self, body: Body, error: BaseException) -> None:
        """Reading the bytes raised."""
        if self._decides(body):
            self._finish("raised", error, late=self._is_finalised)

    def body_closed(self, body: Body) -> None:
        """The bytes were closed: by the caller, by the SDK that was done with them, or by a finaliser."""
        if self._decides(body):
            self._finish("closed", late=self._is_finalised)

    def body_dropped(self, body: Body) -> None:
        """Nobody can read the bytes any more (called by a finaliser)."""
        if body is self.body and not self._is_asking:
            self._finish("dropped", late=True)

    def _decides(self, body: Body) -> bool:
        """Whether the end of ``body`` is the end of the call: it is the latest hop's, and no generator is running."""
        if body is not self.body or self._is_asking:
            return False
        generator = self._generator() if self._generator is not None else None
        return not (getattr(generator, "gi_running", False) or getattr(generator, "ag_running", False))

    @property
    def _is_asking(self) -> bool:
        """Whether the SDK has not decided yet which response counts: behind a middleware, it may retry any."""
        return self.options is not None

    @property
    def _is_finalised(self) -> bool:
        """Whether the watching generator is gone: weak references die before the finalisers of a collection run."""
        return self._generator is not None and self._generator() is None

    def _finish(self, end: End, error: BaseException | Raised | None = None, *, late: bool = False) -> None:
        if self.judge.open_calls.pop(id_of(self), None) is None:  # who takes it out is the one
            return
        self.ended = perf_counter_ns()
        self.end = end
        if isinstance(error, Raised):
            self.error = error
        elif error is not None:
            self.error = guarded("call.raised", Raised.of, error) or Raised(type(error))
        if self._process is not _process[0]:  # inherited by a fork: the call is the parent's to report
            return
        if late:
            self.judge.sink.defer(self._conclude)
        else:
            self._conclude()

    def _conclude(self) -> None:
        guarded("call.conclude", self.judge.conclude, self)

    # -- what the sink asks ---------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes held: request, response and a flat sum for the rest."""
        request = len(self.sent or b"") + (self.upload.held if self.upload is not None else 0)
        return 2048 + request + (self.body.size if self.body is not None else 0)

    def build(self) -> ProviderTrace:
        """The record; see :class:`Pending`."""
        return self.judge.full(self)

    def drop_payload(self) -> None:
        """Drop request and response; the record says ``truncated``."""
        brief = self.brief or self.judge.brief(self)
        self.brief = replace(brief, content="truncated" if self.judge.policy.keep else "metadata")
        self.is_payload_dropped = True
        self.body = self.request = self.upload = None
