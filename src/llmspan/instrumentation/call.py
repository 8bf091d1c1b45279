"""One call to a provider: its state, from the request to its end.

The hooks write the state and ``record.py`` reads it once the call is over. A call does nothing by itself: the observer
that owns it decides when it ends (``observer.py``). It refers to neither response nor stream, so that those are freed
as soon as the caller drops them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from opentelemetry.trace import Span, SpanContext

from .._fork import after_fork_in_child
from ..call_context import CallContext
from ..content import ContentPolicy
from ..redaction import ExactMask
from ..semconv import SpanFacts
from ..wire import Reply
from .body import Body
from .causes import Cause, causes_of
from .upload import Upload

if TYPE_CHECKING:
    from .finished_call import FinishedCall
    from .observer import Observer

#: its one item stands for this process: a forked child has another object (cheaper to compare than ``os.getpid()``)
current_process: Final[list[object]] = [object()]


_NO_MEMBERS: Final[Mapping[str, Any]] = {}
_NO_FACTS: Final = SpanFacts()


def _after_fork() -> None:
    current_process[0] = object()


after_fork_in_child(_after_fork)

#: how reading has ended, as the hooks have seen it; ``record.py`` makes the record's status of it
End = Literal["returned", "exhausted", "closed", "abandoned", "raised"]


class Route(NamedTuple):
    """The kind of call that a URL stands for."""

    operation: str
    api: str


class Endpoint(NamedTuple):
    """The provider and the server that a client sends its requests to."""

    provider: str
    address: str | None
    port: int | None
    sdk: str
    #: what the client connects with, beside what is in its requests
    credentials: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the credentials: a program may log the locals of a traceback."""
        return f"Endpoint({self.provider!r}, {self.address!r}, {self.port!r}, {self.sdk!r})"


#: returns the texts of request and response under a policy, and what ``content`` says of them
PayloadTexts = Callable[[ContentPolicy], tuple[str | None, str | None, Any]]


class ErrorInfo(NamedTuple):
    """What is kept of an exception. The exception itself would keep the caller's frames and stream alive."""

    kind: type[BaseException]
    message: str = ""
    #: the provider's error, as the SDK's exceptions carry it (``body`` or ``details``)
    body: Any = None
    #: the HTTP status that it stands for (``status_code`` or ``code``)
    status: int | None = None
    #: the exceptions that it was raised from, where there is no response of the provider
    causes: tuple[Cause, ...] = ()

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """The facts of ``error``."""
        members = getattr(error, "__dict__", _NO_MEMBERS)  # properties of other libraries' exceptions may warn
        status = getattr(error, "status_code", None) or members.get("code")
        status = status if isinstance(status, int) else None
        body = getattr(error, "body", None)
        causes = causes_of(error) if status is None else ()
        return cls(type(error), str(error), members.get("details") if body is None else body, status, causes)


class BatchResultsSink(Protocol):
    """Receives a response that holds the results of many requests, and submits a record for each."""

    def new_body(self, encoding: str, client: str, /) -> Body:
        """A body that passes its bytes on; ``client`` (httpx or httpx2) decodes ``encoding``."""
        ...

    def finish(self, finished: FinishedCall, /) -> None:
        """Submit the remaining results, then the call that fetched them."""
        ...

    def summary(self) -> Any:
        """The response of the call itself: counts in place of the results."""
        ...


class Call:
    """The state of one call."""

    __slots__ = (
        "__weakref__", "asks_background", "attempts", "batch_results", "body", "context", "conversation_id",
        "credentials", "end", "end_facts", "ended_ns", "endpoint", "error", "generator", "has_native_span", "headers",
        "hides_event", "http_status", "id", "is_adopted", "model", "observer", "options", "parameters", "parent",
        "parse_error", "path", "process", "reply", "request", "response_id", "route", "source", "span", "span_context",
        "span_facts", "started_at", "started_ns", "stream", "upload",
    )  # fmt: skip

    def __init__(self, *, id: str, route: Route, endpoint: Endpoint, observer: Observer) -> None:  # noqa: A002
        self.id = id
        self.route = route
        self.endpoint = endpoint
        #: the owner, to which the hooks report how the call ends
        self.observer = observer
        self.started_at = time_ns()
        #: by ``perf_counter_ns``, as is ``ended_ns``
        self.started_ns = perf_counter_ns()
        self.ended_ns = 0
        self.end: End = "returned"
        self.error: ErrorInfo | None = None
        self.attempts = 0
        #: an httpx request, a :class:`SentRequest`, or the bytes of a WebSocket message
        self.request: Any = None
        self.path = ""
        self.upload: Upload | None = None
        self.batch_results: BatchResultsSink | None = None
        self.headers: Any = None
        self.http_status: int | None = None
        self.body: Body | None = None
        self.span: Span | None = None
        self.span_context: SpanContext | None = None
        self.parent: SpanContext | None = None
        self.context: CallContext | None = None
        self.source: str | None = None
        self.model: str | None = None
        self.conversation_id: str | None = None
        #: the id in the URL of a call that fetches a response
        self.response_id: str | None = None
        #: whether the request asks for a response that is made in the background
        self.asks_background = False
        self.stream = False
        #: the span attributes of the request's parameters
        self.parameters: Mapping[str, Any] = _NO_MEMBERS
        #: facts of the response that only spans, metrics and events have; set when the response is read
        self.span_facts = _NO_FACTS
        #: what was read of the response for the span, if the record needs no more, and the cleaned facts of it; what
        #: is known without reading it, if nobody needs more
        self.reply: Reply | None = None
        self.end_facts: dict[str, Any] | None = None
        #: the request and whether the call failed, for which the mask was made
        self.credentials: tuple[Any, bool, ExactMask] | None = None
        #: the SDK's options of the request while it is in flight, else None. So long the SDK has yet to decide which
        #: response counts: with a middleware, it may retry any of them
        self.options: Any = None
        #: why the SDK cannot parse a body, which it does when the call is over; asked if there is no JSON object in it
        self.parse_error: Callable[[bytes], Exception | None] | None = None
        #: whether an event of the stream is kept from the caller; None if none is
        self.hides_event: Callable[[Any], object] | None = None
        #: whether the span belongs to another instrumentation, which ends it
        self.is_adopted = False
        #: whether the SDK makes a span of its own beside ours and sets the current span itself
        self.has_native_span = False
        #: the generator of ours that yields the events to the caller: how that ends is how the call ends
        self.generator: weakref.ref[Any] | None = None
        #: the process that made the call: the ``current_process`` of then
        self.process = current_process[0]

    def new_body(self, encoding: str, client: str = "httpx2") -> Body:
        """The collector of the bytes of a response, which is now the one that counts."""
        if self.batch_results is not None:
            body = self.batch_results.new_body(encoding, client)
        else:
            body = Body(max(4 * self.observer.policy.max_bytes, 1 << 20), encoding, client)
        self.body = body
        return body

    @property
    def request_bytes(self) -> bytes | None:
        """The body of the request as it was sent; None if it was never built or is a stream (file uploads)."""
        content = self.request if isinstance(self.request, bytes) else getattr(self.request, "_content", None)
        return content if isinstance(content, bytes) and content else None

    @property
    def media_type(self) -> str:
        """The response's content type; empty if it is not known."""
        return (self.headers.get("content-type") if self.headers is not None else None) or ""

    def on_response(self, response: Any) -> None:
        """Keep the headers of ``response`` and, if it has been read already, its content."""
        self.http_status = response.status_code
        self.headers = response.headers
        # a response is reported by the HTTP client, and by the SDK
        if response.is_closed and not (self.body is not None and self.body.is_of(response.content)):
            self.body = Body.from_content(response.content)

    @property
    def is_generator_running(self) -> bool:
        """Whether the generator that yields the events is executing at this moment."""
        generator = self.generator() if self.generator is not None else None
        return getattr(generator, "gi_running", False) or getattr(generator, "ag_running", False)

    @property
    def is_generator_collected(self) -> bool:
        """Whether that generator is gone. A collection clears weak references before it runs finalisers."""
        return self.generator is not None and self.generator() is None
