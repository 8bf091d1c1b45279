"""What has to work on every version of an SDK: called against a local server, by the one SDK that is installed here.

Not collected by pytest: ``run.py`` starts it in environments of their own. A surface that a version does not have is
left out and named; everything else has to give one span and one record with the provider's numbers.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streams import CHAT, MESSAGES, RESPONSES, Api
from watching import Watch, watching

SSE = "text/event-stream"
COMPLETE = {"type": "completion", "id": "compl_1", "completion": " Hi", "stop_reason": "stop_sequence", "model": "c-2"}
COMPLETE_EVENTS = [
    b"event: completion\r\ndata: %b\r\n\r\n"
    % json.dumps({**COMPLETE, "completion": " H", "stop_reason": None}).encode(),
    b"event: ping\r\ndata: {}\r\n\r\n",
    b"event: completion\r\ndata: %b\r\n\r\n" % json.dumps({**COMPLETE, "completion": "i"}).encode(),
]
RESULT = {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGES.body}}
BATCH = {"id": "msgbatch_1", "type": "message_batch", "processing_status": "ended"}
EMBEDDING = {
    "object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers as the providers do, with what ``streams`` has for each path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        if self.path.endswith("/results"):
            self.reply("application/x-jsonl", json.dumps(RESULT).encode() + b"\n")
        else:
            address = f"http://{self.headers['host']}/v1/messages/batches/msgbatch_1/results"
            self.reply("application/json", json.dumps({**BATCH, "results_url": address}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        path = self.path.partition("?")[0].removeprefix("/v1")
        sent = json.loads(body) if body.startswith(b"{") else {}
        whole, events = {
            "/chat/completions": (CHAT.body, CHAT.stream),
            "/responses": (RESPONSES.body, RESPONSES.stream),
            "/embeddings": (EMBEDDING, []),
            "/audio/transcriptions": ({"text": "hi"}, []),
            "/messages": (MESSAGES.body, MESSAGES.stream),
            "/messages/count_tokens": ({"input_tokens": 7}, []),
            "/complete": (COMPLETE, COMPLETE_EVENTS),
        }[path]
        if sent.get("model") == "broken":
            error = {"type": "error", "error": {"type": "some_error", "message": "no"}}
            self.reply("application/json", json.dumps(error).encode(), 400)
        elif sent.get("model") == "slow":  # the beginning, and the rest when the client is gone
            self.head(SSE, 1_000_000)
            self.wfile.write(b"".join(events[:4]))
            self.connection.recv(1)
            self.close_connection = True
        elif sent.get("stream"):
            self.reply(SSE, b"".join(events))
        else:
            self.reply("application/json", json.dumps(whole).encode())

    def head(self, kind: str, length: int, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(length))
        self.end_headers()

    def reply(self, kind: str, body: bytes, status: int = 200) -> None:
        self.head(kind, len(body), status)
        self.wfile.write(body)


@contextmanager
def server() -> Iterator[str]:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()
    listening.server_close()


def one(watch: Watch, usage: tuple[int | None, int | None], status: str = "ok") -> Any:
    """The one span and record, which agree."""
    record, span = watch.only()
    assert span.end_time is not None
    assert record.status == status, (record.status, record.error_type, record.error_message)
    assert (record.usage.input_tokens, record.usage.output_tokens) == usage
    assert record.request_json is None or json.loads(record.request_json)
    return record


def numbers(api: Api) -> tuple[int, int]:
    return api.input_tokens, api.output_tokens


def create(api: Api, client: Any) -> None:
    api.method(client)(**api.arguments)


def stream(api: Api, client: Any) -> None:
    for _ in api.method(client)(**api.arguments, stream=True):
        pass


def raw(api: Api, client: Any) -> None:
    for _ in variant(api, client, "with_raw_response")(**api.arguments, stream=True).parse():
        pass


def lines(api: Api, client: Any) -> None:
    with variant(api, client, "with_streaming_response")(**api.arguments, stream=True) as response:
        for _ in response.iter_lines():
            pass


def variant(api: Api, client: Any, name: str) -> Any:
    resource, _, method = api.path.rpartition(".")
    return getattr(getattr(api.method(client, resource), name), method)


def helper(api: Api, client: Any) -> None:
    resource = api.path.rpartition(".")[0]
    path = f"{resource}.stream"
    if resource == "chat.completions" and not hasattr(client.chat.completions, "stream"):
        path = "beta.chat.completions.stream"
    with api.method(client, path)(**api.arguments) as events:
        for _ in events:
            pass


def early(api: Api, client: Any) -> None:
    for number, _ in enumerate(api.method(client)(**{**api.arguments, "model": "slow"}, stream=True)):
        if number == 1:
            break
    gc.collect()


async def create_async(api: Api, client: Any) -> None:
    await api.method(client)(**api.arguments)


async def stream_async(api: Api, client: Any) -> None:
    async for _ in await api.method(client)(**api.arguments, stream=True):
        pass


SYNC: dict[str, Callable[[Api, Any], None]] = {
    "create": create, "stream": stream, "raw": raw, "lines": lines, "helper": helper, "early": early,
}  # fmt: skip
ASYNC = {"create": create_async, "stream": stream_async}


def smoke_api(api: Api, make: Callable[[bool], Any]) -> list[str]:
    done = []
    for name, action in SYNC.items():
        with watching(include_usage="off") as watch, make(False) as client:
            action(api, client)
        if name == "early":
            one(watch, (api.early_input_tokens, None), "closed_early")
        else:
            one(watch, numbers(api))
        done.append(f"{api.name} {name}")
    for name, action in ASYNC.items():
        with watching(include_usage="off") as watch:
            asyncio.run(within(make(True), lambda client, action=action: action(api, client)))
        one(watch, numbers(api))
        done.append(f"{api.name} async {name}")
    with watching() as watch, make(False) as client:
        error = exception_of(lambda: api.method(client)(**{**api.arguments, "model": "broken"}))
    assert "no" in str(error)
    assert one(watch, (None, None), "error").error_type == "some_error"
    return [*done, f"{api.name} error"]


def exception_of(function: Callable[[], Any]) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


async def within(client: Any, action: Callable[[Any], Any]) -> None:
    async with client:
        await action(client)


def smoke_openai(url: str) -> Iterator[list[str]]:
    import openai

    def make(is_async: bool) -> Any:
        kind = openai.AsyncOpenAI if is_async else openai.OpenAI
        return kind(api_key="k", base_url=f"{url}/v1", max_retries=0)

    yield smoke_api(CHAT, make)
    yield (
        smoke_api(RESPONSES, make) if hasattr(openai.OpenAI, "responses") or has(make, "responses") else ["-responses"]
    )
    with watching() as watch, make(False) as client:
        client.embeddings.create(model="e", input="hi")
    one(watch, (9, None))
    with watching() as watch, make(False) as client:
        for asked in ({}, {"encoding_format": "base64"}, {"encoding_format": "float"}):
            client.embeddings.create(model="e", input="hi", **asked)
    encodings = [(span.attributes or {}).get("gen_ai.request.encoding_formats") for span in watch.spans]
    assert encodings == [None, ("base64",), ("float",)]
    with watching() as watch, make(False) as client:
        client.audio.transcriptions.create(model="w", file=("a.mp3", b"abc"))
    assert json.loads(one(watch, (None, None)).request_json)["file"]["bytes"] == 3
    yield ["embeddings", "transcriptions"]
    yield smoke_socket(make)


def has(make: Callable[[bool], Any], name: str) -> bool:
    with make(False) as client:
        return hasattr(client, name)


def smoke_socket(make: Callable[[bool], Any]) -> list[str]:
    with make(False) as client:
        if not hasattr(getattr(client, "responses", None), "connect"):
            return ["-responses.connect"]
    from websockets.sync.server import serve

    def answer(socket: Any) -> None:
        for _ in socket:
            for event in RESPONSES.stream:
                socket.send(event.decode().partition("data: ")[2].strip())

    with serve(answer, "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        with watching() as watch, make(False) as client:
            client.base_url = f"http://127.0.0.1:{listening.socket.getsockname()[1]}/v1"
            with client.responses.connect() as connection:
                connection.send({"type": "response.create", "model": "m", "input": "hi"})
                while connection.recv().type != "response.completed":
                    pass
        listening.shutdown()
        thread.join()
    one(watch, numbers(RESPONSES))
    return ["responses.connect"]


def smoke_anthropic(url: str) -> Iterator[list[str]]:
    import anthropic

    def make(is_async: bool) -> Any:
        kind = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
        return kind(api_key="k", base_url=url, max_retries=0)

    yield smoke_api(MESSAGES, make)
    with watching() as watch, make(False) as client:
        client.messages.count_tokens(model="m", messages=MESSAGES.arguments["messages"])
    assert one(watch, (None, None)).usage.raw == {"input_tokens": 7}
    with watching() as watch, make(False) as client:
        assert len(list(client.messages.batches.results("msgbatch_1"))) == 1
    assert [record.usage.output_tokens for record in watch.records] == [MESSAGES.output_tokens, None]
    yield ["count_tokens", "batches.results"]
    if not has(make, "completions"):
        yield ["-completions"]
        return
    for streams in (False, True):
        with watching() as watch, make(False) as client:
            arguments = {"model": "c-2", "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 9}
            result = client.completions.create(**arguments, stream=streams)
            if streams:
                assert len(list(result)) == 2
        record = one(watch, (None, None))
        assert (record.api, record.operation, record.response_id) == ("complete", "text_completion", "compl_1")
        assert json.loads(record.response_json)["completion"] == " Hi"
        assert record.finish_reasons == ("stop_sequence",)
    yield ["completions"]


def main(package: str) -> None:
    """Run the smoke test of one SDK and say in one line what was there."""
    with server() as url:
        groups = list({"openai": smoke_openai, "anthropic": smoke_anthropic}[package](url))
    done = [name for group in groups for name in group if not name.startswith("-")]
    absent = [name[1:] for group in groups for name in group if name.startswith("-")]
    missing = f"; not in this version: {', '.join(absent)}" if absent else ""
    print(f"{package} {version(package)}: {len(done)} surfaces recorded{missing}")


if __name__ == "__main__":
    main(sys.argv[1])
