"""A provider, as small as one can be: copy it, and replace what is said of the SDK ``acme_llm``.

That SDK has a ``Client`` whose ``_send(path, body, stream)`` makes every request. It returns the JSON of the response
as text, or a generator that yields the JSON of one event at a time. The answers have the form of chat completions, so
the parser of those reads them; another form needs a parser in ``llmspan/wire/apis/``. See docs/writing-a-provider.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

from llmspan._guard import guarded
from llmspan.instrumentation import Observer
from llmspan.instrumentation.body import Body
from llmspan.instrumentation.call import Call, Endpoint, Route
from llmspan.instrumentation.chunk_collector import ChunkCollector
from llmspan.instrumentation.import_hooks import when_imported
from llmspan.instrumentation.patching import Patch, Patches
from llmspan.instrumentation.sending import attach, detach, sending_context
from llmspan.instrumentation.sent_request import SentRequest
from llmspan.instrumentation.tee import observe_events

#: path of a request -> the operation, and the name of the parser in ``llmspan.wire.PARSERS``
ROUTES: Final = {"/chat": Route("chat", "chat_completions")}


class AcmeProvider:
    """What the entry point ``llmspan.providers: acme_llm`` names."""

    name = "acme_llm"

    def instrument(self, observer: Observer) -> AcmeHooks:
        """Record this SDK's calls from now on, or from when the program imports it."""
        return AcmeHooks(observer)


class AcmeHooks:
    """The patches, for one observer."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self._patches = Patches()
        self._cancel: Callable[[], None] = when_imported("acme_llm", self._install)

    def remove(self) -> None:
        """Put everything back. Calls that are open are still recorded when they end."""
        self._cancel()
        self._patches.remove()

    def _install(self, module: Any) -> None:
        self._patches.apply((Patch(module.Client, "_send", self._send),))

    def _send(self, original: Any) -> Any:
        @functools.wraps(original)
        def _send(client: Any, path: str, body: dict[str, Any], stream: bool = False) -> Any:
            call = guarded("acme.start", self._start_call, client, path, body, stream=stream)
            if call is None:
                return original(client, path, body, stream)
            context = guarded("acme.context", sending_context, call)
            token = attach(context)
            try:
                result = original(client, path, body, stream)
            except BaseException as error:
                detach(token, context)
                call.observer.on_error(call, error)
                raise
            detach(token, context)
            if stream:
                return observe_events(_collect(result, call), call)
            guarded("acme.response", _keep_body, call, result)
            call.observer.on_return(call)
            return result

        return _send

    def _start_call(self, client: Any, path: str, body: dict[str, Any], *, stream: bool) -> Call | None:
        route = ROUTES.get(path)
        if route is None:
            return None
        endpoint = Endpoint("acme", client.host, 443, "acme-llm/1.0")
        call = self.observer.start_call(route, endpoint, body, stream=stream)
        if call is not None:
            call.attempts = 1
            call.request = SentRequest(f"https://{client.host}{path}", {"authorization": client.key}, body)
            guarded("acme.start_span", self.observer.start_span, call, body)
        return call


def _keep_body(call: Call, text: str) -> None:
    call.http_status = 200
    call.body = Body.from_content(text.encode())


def _collect(events: Iterator[str], call: Call) -> Iterator[str]:
    """Yield the events at once and unchanged, and keep each as the server-sent event that it was."""
    call.http_status = 200
    collector = ChunkCollector(call.new_body(""), times_all_chunks=call.observer.times_all_chunks)
    for event in events:
        guarded("acme.event", collector.add, b"data: %b\n\n" % event.encode())
        yield event


PROVIDER: Final = AcmeProvider()
