"""Further places: around a call, beside HTTP, and where records come from that are no calls of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import anthropic
import httpx2
import openai
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode
from websockets.sync.server import ServerConnection, serve

import llmspan
from llmspan.exporter import SQLiteSpanExporter
from streams import CHAT, MESSAGES, RESPONSES

from . import marks
from .carriers import Form
from .echoes import error, in_body

#: makes the call: the secret, and what the model is asked
Act = Callable[[str, str], None]


class Other(NamedTuple):
    """A place; ``form`` is that of its secret."""

    act: Act
    form: Form = marks.opaque


def _client(answer: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> openai.OpenAI:
    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(**{"api_key": "none-of-it", "max_retries": 0, "http_client": http_client} | options)


def _ask(client: Any, word: str, **more: Any) -> Any:
    messages = [{"role": "user", "content": word}]
    return client.chat.completions.create(model="gpt-5-mini", messages=messages, **more)


def _good(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json=CHAT.body)


# -- around a call


def _context(make: Callable[[str], dict[str, Any]]) -> Act:
    """Something that the program says of its calls."""

    def act(secret: str, word: str) -> None:
        with llmspan.context(**make(secret)):
            _ask(_client(_good), word)

    return act


def _own_key(make: Callable[[str], dict[str, Any]]) -> Act:
    """The key of the very call, where an id or a tag belongs."""

    def act(secret: str, word: str) -> None:
        with llmspan.context(**make(secret)):
            _ask(_client(_good, api_key=secret), word)

    return act


_CREDENTIALS: Final = (
    "accessToken", "token", "refresh_token", "api_key", "clientSecret", "password", "Authorization", "DB_PASSWORD",
    "bearer", "jwt", "sessionToken", "x-api-key", "privateKey", "connection_string", "dsn_password", "id_token",
)  # fmt: skip


# -- by hand, and by others


def _by_hand(make: Callable[[str], dict[str, Any]]) -> Act:
    def act(secret: str, word: str) -> None:
        llmspan.record(**{"provider": "cohere", "request": {"messages": [word]}} | make(secret))

    return act


def _foreign(make: Callable[[str], dict[str, Any]], **more: Any) -> Act:
    """A span of another instrumentation, by an exporter that names the first store."""

    def act(secret: str, word: str) -> None:
        provider = TracerProvider(shutdown_on_exit=False)
        exporter = SQLiteSpanExporter(sqlite_path=llmspan.status()[0].location)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": word}]}])
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "cohere"}
        attributes |= {"gen_ai.input.messages": messages, "llmspan.attributes.place": word}
        span = provider.get_tracer("theirs").start_span("chat", attributes=attributes | make(secret), context=Context())
        if more.get("fails"):
            span.record_exception(ValueError(f"401 for Bearer {secret}: api_key={secret}"))
            span.set_status(Status(StatusCode.ERROR, f"https://ann:{secret}@x.example said api_key={secret}"))
        span.end()

    return act


# -- beside HTTP


@contextmanager
def _server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real HTTP server; ``answer`` writes the whole response."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            answer(self)

        do_CONNECT = do_POST  # noqa: N815 - the name that the base class looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _illegal_header(secret: str, word: str) -> None:
    """A key with a line break at its end, as files have it: the HTTP library quotes it in its error."""
    with _server(lambda handler: handler.send_error(500)) as address:
        client = openai.OpenAI(api_key=f"{secret}\n", base_url=f"http://{address}/v1", max_retries=0)
        with suppress(openai.APIConnectionError):
            _ask(client, word)


def _wrong_url(secret: str, word: str) -> None:
    """A password that is taken for a port."""
    with suppress(Exception):
        body = {"model": "m", "messages": [{"role": "user", "content": word}]}
        _client(_good).post(f"https://ann:{secret}/chat/completions", cast_to=object, body=body)


def _proxy(secret: str, word: str, scheme: str) -> None:
    """A proxy that says whom it refuses, in the body and in the reason."""

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        said = handler.headers.get("proxy-authorization", "")
        handler.send_response(407, f"no ann {secret} {said}")
        handler.send_header("x-request-id", f"for-{secret}")
        handler.end_headers()
        handler.wfile.write(f"user ann with password {secret} ({said}) may not".encode())

    with _server(refuse) as address:
        proxy = f"http://ann:{quote(secret, safe='')}@{address}"
        client = openai.OpenAI(
            api_key="none-of-it", base_url=f"{scheme}://x.example/v1", max_retries=0,
            http_client=httpx2.Client(proxy=proxy),
        )  # fmt: skip
        with suppress(openai.APIError):
            _ask(client, word)


def _socket(secret: str, word: str) -> None:
    """The Responses WebSocket: an error that tells the key of the handshake."""

    def answer(connection: ServerConnection) -> None:
        asked = connection.recv()
        seen = dict(connection.request.headers if connection.request else {})
        event = {"type": "error", "status": 401, "error": {"message": f"{seen} {asked!r}", "code": secret}}
        connection.send(json.dumps(event))

    with serve(answer, "127.0.0.1", 0) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{listening.socket.getsockname()[1]}/v1"
        with openai.OpenAI(api_key=secret, base_url=url) as client, client.responses.connect() as connection:
            connection.response.create(model="gpt-5-mini", input=word)
            with suppress(Exception):
                connection.recv()
        listening.shutdown()
        thread.join()


def _socket_body(secret: str, word: str) -> None:
    def answer(connection: ServerConnection) -> None:
        asked = connection.recv()
        connection.send(json.dumps({"type": "error", "error": {"message": f"{secret} in {asked!r}"}}))

    with serve(answer, "127.0.0.1", 0) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{listening.socket.getsockname()[1]}/v1"
        with openai.OpenAI(api_key="none", base_url=url) as client, client.responses.connect() as connection:
            tool = {"type": "mcp", "server_label": "w", "server_url": "https://x.example", "authorization": secret}
            connection.send({"type": "response.create", "model": "gpt-5-mini", "input": word, "tools": [tool]})
            with suppress(Exception):
                connection.recv()
        listening.shutdown()
        thread.join()


# -- other methods

BATCH: Final[Mapping[str, Any]] = {
    "id": "msgbatch_1", "type": "message_batch", "processing_status": "ended", "expires_at": "2026-11-02T00:00:00Z",
    "created_at": "2026-11-01T00:00:00Z", "ended_at": "2026-11-01T00:10:00Z", "archived_at": None,
    "cancel_initiated_at": None, "results_url": None,
    "request_counts": {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0},
}  # fmt: skip


def _batch(secret: str, word: str) -> None:
    reason = {"type": "invalid_request_error", "message": f"key {secret}, api_key={secret}"}
    refused = {"type": "error", "error": reason}
    answered = json.loads(in_body(MESSAGES, f"you are {secret}"))
    lines = [
        {"custom_id": f"a-{word}", "result": {"type": "errored", "error": refused}},
        {"custom_id": f"b-{word}", "result": {"type": "succeeded", "message": answered}},
    ]
    batch = BATCH | {"results_url": f"https://api.anthropic.com/v1/messages/batches/msgbatch_{word}/results"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, content=b"\n".join(json.dumps(line).encode() for line in lines))
        return httpx2.Response(200, json=batch)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = anthropic.Anthropic(api_key=secret, max_retries=0, http_client=http_client)
    assert len(list(client.messages.batches.results(f"msgbatch_{word}"))) == 2


def _background(secret: str, word: str) -> None:
    failed = {**RESPONSES.body, "id": f"resp_{word}", "status": "failed", "background": True, "output": []}
    failed["usage"] = None
    failed["error"] = {"code": "server_error", "message": f"upstream refused {secret} (Bearer {secret})"}
    failed["metadata"] = {"said": secret}
    _client(lambda _: httpx2.Response(200, json=failed), api_key=secret).responses.retrieve(f"resp_{word}")


def _no_json(secret: str, word: str) -> None:
    """A request that is no JSON, and an answer that Python cannot parse."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(422, content=b'{"error": {"message": "not JSON: ' + request.content + b'"')

    content = f'{{"model": "m", "api_key": "{secret}", "n": NaN, "word": "{word}", }} &api_key={secret}'.encode()
    with suppress(openai.APIError):
        _client(answer).post("/chat/completions", cast_to=object, content=content)


def _yaml_body(secret: str, word: str) -> None:
    content = f"model: m\napi_key: {secret}9*\nword: {word}\npassword = {secret}\n".encode()
    with suppress(openai.APIError):
        _client(lambda _: error("what?", 400)).post("/chat/completions", cast_to=object, content=content)


def _raw_response(secret: str, word: str) -> None:
    answer = httpx2.Response(200, content=in_body(CHAT, f"your key is {secret}"))
    client = _client(lambda _: answer, api_key=secret)
    messages: Any = [{"role": "user", "content": word}]
    client.chat.completions.with_raw_response.create(model="gpt-5-mini", messages=messages).parse()


def _retried(secret: str, word: str) -> None:
    """A first attempt that is refused with the key, and a second that is answered."""
    answers = [error(f"busy, {secret}", 500), httpx2.Response(200, content=in_body(CHAT, f"now {secret} is known"))]
    _ask(_client(lambda _: answers.pop(0), api_key=secret, max_retries=1), word)


def _http_auth(secret: str, word: str) -> None:
    """Credentials of the HTTP client, which the SDK does not know."""
    http_client = httpx2.Client(
        transport=httpx2.MockTransport(lambda request: error(f"{secret} {dict(request.headers)}")), auth=("ann", secret)
    )
    with suppress(openai.APIError):
        _ask(openai.OpenAI(api_key="none", max_retries=0, http_client=http_client), word)


def _prompt(secret: str, word: str) -> None:
    """What the model is asked, with ``LLMSPAN_REDACT_PATTERNS=keys``: JSON in tool arguments, escapes, colours."""
    arguments = json.dumps({"text": f"\n{secret}\t", "url": f"https://x.example/?q=%20{secret}%20"})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"n": arguments})}}
    messages: Any = [
        {"role": "user", "content": f"{word} my key:\n{secret}\n\x1b[31m{secret}\x1b[0m \\u0022{secret}\\u0022"},
        {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": f"%20{secret}"},
    ]  # fmt: skip
    answer = httpx2.Response(200, content=in_body(CHAT, f"it was\n{secret}"))
    _client(lambda _: answer).chat.completions.create(model="gpt-5-mini", messages=messages)


OTHERS: Final[Mapping[str, Other]] = {
    **{
        f"attribute {name}": Other(_context(lambda s, name=name: {"attributes": {name: s, "list": [{name: s}]}}))
        for name in _CREDENTIALS
    },
    "attribute that is a URL": Other(
        _context(lambda s: {"attributes": {"db": f"postgres://ann:{s}@h/d", "hook": f"https://h/?token={s}"}})
    ),
    "attribute that is JSON": Other(_context(lambda s: {"attributes": {"config": json.dumps({"api_key": s})}})),
    "attribute that quotes a key": Other(
        _context(lambda s: {"attributes": {"note": f"used {s}\nand %20{s}", f"name {s}": 1}}), marks.vendor
    ),
    "llm_config": Other(_context(lambda s: {"llm_config": {"model": "m", "model_endpoint": f"https://a:{s}@h/v1",
                                                           "api_key": s, "headers": {"X-A": s}}})),
    "billing_context": Other(_context(lambda s: {"billing_context": {"account": {"auth": s}}})),
    "compaction_settings": Other(_context(lambda s: {"compaction_settings": [{"proxy": f"http://u:{s}@h:3128"}]})),
    "step_id": Other(_own_key(lambda s: {"step_id": s})),
    "user_id": Other(_own_key(lambda s: {"user_id": f"user-{s}", "org_id": s, "agent_id": s}), marks.vendor),
    "conversation_id": Other(_own_key(lambda s: {"conversation_id": s, "run_id": s, "call_type": s})),
    "tags": Other(_own_key(lambda s: {"agent_tags": ["a", s, f"key={s}"]})),
    "a vendor's key as user": Other(_context(lambda s: {"user_id": s, "agent_tags": [f"Bearer {s}"]}), marks.vendor),
    "record: request": Other(_by_hand(lambda s: {"request": {"api_key": s, "x": [{"password": s}]}, "model": "m"})),
    "record: error": Other(_by_hand(lambda s: {"error": ValueError(f"401: api_key={s}, Bearer {s}9x")})),
    "record: error body": Other(_by_hand(lambda s: {"error": "no", "error_json": {"headers": {"x": s}, "token": s}})),
    "record: response of a failure": Other(
        _by_hand(lambda s: {"error": "no", "response": {"error": {"message": f"bad api_key={s}"}}})
    ),
    "record: text that is no JSON": Other(
        _by_hand(lambda s: {"request": f"api_key={s}", "error": "no", "response": f"password={s}"})
    ),
    "record: attributes": Other(_by_hand(lambda s: {"attributes": {"accessToken": s}})),
    "record: server_address": Other(_by_hand(lambda s: {"server_address": f"https://ann:{s}@x.example:443"})),
    "span: attributes": Other(
        _foreign(lambda s: {"llmspan.attributes.api_key": s, "metadata": json.dumps({"token": s})})
    ),
    "span: invocation parameters": Other(_foreign(lambda s: {
        "openinference.span.kind": "LLM", "llm.invocation_parameters": json.dumps({"api_key": s, "n": 1}),
        "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "hi",
    })),
    "span: input.value": Other(_foreign(lambda s: {
        "openinference.span.kind": "LLM", "input.value": json.dumps({"messages": [], "headers": {"Authorization": s}}),
    })),
    "span: api_base": Other(_foreign(lambda s: {"gen_ai.openai.api_base": f"https://ann:{s}@x.example/v1"})),
    "span: failure": Other(_foreign(lambda _: {}, fails=True)),
    "line break behind the key": Other(_illegal_header),
    "URL that is none": Other(_wrong_url),
    "proxy of an HTTP URL": Other(lambda s, w: _proxy(s, w, "http")),
    "proxy of an HTTPS URL": Other(lambda s, w: _proxy(s, w, "https")),
    "proxy, an odd password": Other(lambda s, w: _proxy(s, w, "http"), lambda n: marks.odd(n).replace("é", "e")),
    "WebSocket: key": Other(_socket),
    "WebSocket: body": Other(_socket_body),
    "batch results": Other(_batch),
    "background response": Other(_background),
    "request that is no JSON": Other(_no_json),
    "request that is YAML": Other(_yaml_body),
    "raw response": Other(_raw_response),
    "retried call": Other(_retried),
    "auth of the HTTP client": Other(_http_auth),
}  # fmt: skip

#: places that need ``LLMSPAN_REDACT_PATTERNS=keys``
PROMPTS: Final[Mapping[str, Other]] = {"prompt": Other(_prompt, marks.vendor)}
