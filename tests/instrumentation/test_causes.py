"""Connection errors keep their cause: which of the many reasons for ``Connection error.`` it was."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from llmspan import _guard
from llmspan.cli import render
from llmspan.content import ContentPolicy
from llmspan.instrumentation.causes import causes_of
from llmspan.redaction import MASK, Redactor
from replay import Pieces, client_for
from streams import CHAT, MESSAGES, RESPONSES, Api
from unit.test_cli_listing import listed
from unit.test_cli_render import drawn
from watching import Watch, watching

APIS = pytest.mark.parametrize("api", [CHAT, RESPONSES, MESSAGES], ids=lambda api: api.name)
COLOURS = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
CONNECTION_ERRORS = openai.APIConnectionError, anthropic.APIConnectionError


def make_client(provider: str, base_url: str, *, is_async: bool) -> Any:
    module, name = {"openai": (openai, "OpenAI"), "anthropic": (anthropic, "Anthropic")}[provider]
    kind = getattr(module, f"Async{name}" if is_async else name)
    return kind(api_key="sk-planted-secret-0123456789", base_url=base_url, max_retries=0, timeout=20)


def ask(api: Api, base_url: str, *, is_async: bool) -> None:
    """Make a call that fails."""
    client = make_client(api.provider, base_url, is_async=is_async)

    def call() -> None:
        result = api.method(client)(**api.arguments)
        if is_async:
            asyncio.run(await_all(result))

    with pytest.raises(CONNECTION_ERRORS):
        call()


async def await_all(result: Any) -> None:
    async for _ in await result:
        pass


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server on a real socket that does ``answer`` to each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def check(watch: Watch, *said: str) -> None:
    record, span = watch.only()
    assert record.status == "error"
    assert (record.error_message or "").startswith("Connection error. Caused by httpx2.")
    for word in said:
        assert word.lower() in (record.error_message or "").lower()
    assert record.error_json["type"].endswith("APIConnectionError")
    assert record.error_json["message"] == "Connection error."
    assert record.error_json["caused_by"][0]["type"].startswith("httpx2.")
    assert said[0].lower() in json.dumps(record.error_json["caused_by"]).lower()
    assert said[0].lower() in (span.status.description or "").lower()
    shown = " ".join(drawn(render.call(record)).split()).lower()
    assert said[0].lower() in shown
    assert said[0].lower() in listed([record])[1].lower()


@APIS
@COLOURS
def test_refused(api: Api, is_async: bool, watch: Watch) -> None:
    """Nobody listens at the port."""
    ask(api, f"http://127.0.0.1:{free_port()}", is_async=is_async)
    check(watch, "refused")


@APIS
@COLOURS
def test_an_unknown_host(api: Api, is_async: bool, watch: Watch) -> None:
    """The name has no address."""
    ask(api, "http://no-such-host.invalid", is_async=is_async)
    record, _ = watch.only()
    assert "httpx2.ConnectError" in (record.error_message or "")
    assert any(word in (record.error_message or "") for word in ("Name or service", "name resolution", "not known"))


@APIS
@COLOURS
def test_tls(api: Api, is_async: bool, watch: Watch) -> None:
    """What answers does not speak TLS."""

    def plain(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(plain) as place:
        ask(api, f"https://{place}", is_async=is_async)
    check(watch, "ssl")


@APIS
@COLOURS
def test_a_server_that_hangs_up(api: Api, is_async: bool, watch: Watch) -> None:
    """The connection is closed without an answer."""

    def hang_up(connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # a socket closed with something unread resets the connection instead
            pass

    with listening(hang_up) as place:
        ask(api, f"http://{place}", is_async=is_async)
    check(watch, "server disconnected", "RemoteProtocolError")


@APIS
@COLOURS
def test_a_stream_that_is_cut(api: Api, is_async: bool, watch: Watch) -> None:
    """A stream that breaks off mid-way says why, and keeps what had been received."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        lost = httpx2.RemoteProtocolError("peer closed connection without sending complete message body")
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(api.stream[:5],
                               lambda: lost))  # fmt: skip

    def read() -> None:
        client = client_for(api.provider, httpx2.MockTransport(answer), is_async=is_async)
        result = api.method(client)(**api.arguments, stream=True)
        if is_async:
            asyncio.run(await_all(result))
        else:
            list(result)

    with pytest.raises((*CONNECTION_ERRORS, httpx2.RemoteProtocolError)):
        read()
    record, _ = watch.only()
    assert record.status == "error"
    assert "peer closed connection" in (record.error_message or "")
    assert record.response_json is not None


def raising(error: BaseException) -> Any:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise error

    return client_for("openai", httpx2.MockTransport(answer))


def failing(error: BaseException, watch: Watch) -> Any:
    with pytest.raises(openai.APIConnectionError):
        raising(error).responses.create(**RESPONSES.arguments)
    return watch.only()[0]


def test_a_timeout_without_a_message_has_its_kind(watch: Watch) -> None:
    """Which of the time-outs it was is in the class."""
    record = failing(httpx2.PoolTimeout(""), watch)
    assert record.error_message == "Request timed out. Caused by httpx2.PoolTimeout"


def test_the_answer_of_a_provider_needs_no_cause(watch: Watch) -> None:
    """An HTTP error is told in the provider's words, without the HTTP client's."""
    body = {"error": {"message": "no such model", "type": "invalid_request_error"}}
    client = client_for("openai", httpx2.MockTransport(lambda _: httpx2.Response(404, json=body)))
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**RESPONSES.arguments)
    record, _ = watch.only()
    assert (record.error_message, record.error_json) == ("no such model", body["error"])
    assert "caused_by" not in record.error_json


def test_what_the_program_was_handling_is_not_a_cause(watch: Watch) -> None:
    """An exception that the program handles while it calls has nothing to do with the call."""
    try:
        raise ValueError("the customer's own affair")
    except ValueError:
        record = failing(httpx2.ConnectError("refused"), watch)
    assert "affair" not in record.to_json()


def test_secrets_in_causes_are_masked() -> None:
    """Keys, the call's own credentials, passwords in URLs, and what the redaction names, go nowhere."""
    inner = OSError("proxy http://user:hunter2@proxy.example said sk-planted-secret to ada@example.com")
    error = httpx2.ProxyError("bearer sk-live-0123456789abcdef refused")
    error.__cause__ = inner
    with watching(policy=ContentPolicy(redact=Redactor(("email",)))) as watch:
        record = failing(error, watch)
        texts = record.to_json() + str(watch.spans[0].status.description) + str(dict(watch.spans[0].attributes or {}))
    for secret in ("hunter2", "sk-planted-secret", "sk-live", "ada@example.com"):
        assert secret not in texts
    assert MASK in (record.error_message or "")
    assert "proxy.example" in (record.error_message or "")


def test_a_chain_is_bounded() -> None:
    """A long chain ends, a long message is cut, a circle is gone round once, and a group's members are there."""
    first = error = ValueError("0")
    for number in range(1, 100):
        behind = ValueError(str(number) * 5000)
        error.__cause__ = behind
        error = behind
    causes = causes_of(first)
    assert len(causes) == 8
    assert max(len(cause.message) for cause in causes) == 1000
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    assert [cause.type for cause in causes_of(one)] == ["KeyError"]
    one.__cause__ = ExceptionGroup("several", [ConnectionRefusedError("v4"), OSError("v6")])
    assert [str(cause) for cause in causes_of(one)] == [
        "ExceptionGroup: several (2 sub-exceptions)", "ConnectionRefusedError: v4", "OSError: v6",
    ]  # fmt: skip


class Rude(ssl.SSLError):
    """An exception that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_be_told() -> None:
    """Its class is told, and the caller gets the SDK's error."""
    with watching() as watch:
        error = httpx2.ConnectError("refused")
        error.__cause__ = Rude()
        record = failing(error, watch)
        assert _guard.failures() == {"call.cause": 1}
        _guard.reset_error_counts()
    assert record.error_message.endswith("instrumentation.test_causes.Rude")
