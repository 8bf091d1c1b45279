"""One program, step by step, bare and observed: every value, type, exception and request on the wire is the same."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pydantic
import pytest

from replay import Pieces, client_for, split
from streams import BETA_MESSAGES, CHAT, MESSAGES, RESPONSES, WORDS, Api, json
from watching import watching

SSE = {"content-type": "text/event-stream", "x-request-id": "req_1", "request-id": "req_1"}
TOOL = {"name": "look", "description": "", "input_schema": {"type": "object", "properties": {}}}
EMBEDDING = {
    "object": "list", "model": "e", "usage": {"prompt_tokens": 9, "total_tokens": 9},
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
}  # fmt: skip
COMPLETION = {
    "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "e",
    "choices": [{"index": 0, "text": "x", "finish_reason": "stop", "logprobs": None}],
}  # fmt: skip
BODIES: dict[str, Any] = {
    "/chat/completions": CHAT.body,
    "/responses": RESPONSES.body,
    "/responses/resp_1": RESPONSES.body,
    "/messages": MESSAGES.body,
    "/embeddings": EMBEDDING,
    "/completions": COMPLETION,
    "/models": {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "o"}]},
    "/messages/count_tokens": {"input_tokens": 5},
    "/moderations": {"id": "modr-1", "model": "m", "results": []},
}
STREAMS = {"/chat/completions": CHAT.stream, "/responses": RESPONSES.stream, "/messages": MESSAGES.stream}


class Word(pydantic.BaseModel):
    """What parsed calls are parsed into."""

    word: str


class World:
    """A provider that keeps what it was sent, and the clients of it."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.failures: list[httpx2.Response | Exception] = []
        self.pieces = 0
        self.raw: list[bytes] = []

    def respond(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        path = re.sub("^(/v1)+(/deployments/[^/]+)?", "", request.url.path)
        body = json.loads(request.content) if request.content.startswith(b"{") else {}
        if body.get("stream"):
            events = STREAMS[path]
            pieces = split(b"".join(events), self.pieces) if self.pieces else events
            return httpx2.Response(200, headers=SSE, stream=Pieces(self.raw or pieces))
        answer = BODIES[path]
        if "response_format" in body or "text" in body or "output_config" in body:
            answer = json.loads(json.dumps(answer).replace(json.dumps("".join(WORDS)), json.dumps('{"word": "hi"}')))
        return httpx2.Response(200, headers={"x-request-id": "req_1", "request-id": "req_1"}, json=answer)

    def client(self, api: Api | str, *, is_async: bool = False, **options: Any) -> Any:
        provider = api if isinstance(api, str) else api.provider
        mock = httpx2.MockTransport(self.respond)
        return client_for(provider, mock, is_async=is_async, base_url="http://local.test/v1", **options)

    def create(self, api: Api, *, variant: str = "", **more: Any) -> Any:
        path = api.path.replace("create", f"{variant}.create") if variant else api.path
        return api.method(self.client(api), path)(**{**api.arguments, **more})

    def create_async(self, api: Api, *, variant: str = "", **more: Any) -> Any:
        path = api.path.replace("create", f"{variant}.create") if variant else api.path
        return api.method(self.client(api, is_async=True), path)(**{**api.arguments, **more})


def tell(value: Any) -> Any:
    """Everything about a value that a program could depend on."""
    if isinstance(value, list | tuple):
        return [type(value), *map(tell, value)]
    if isinstance(value, dict):
        return {key: tell(inner) for key, inner in value.items()}
    if isinstance(value, pydantic.BaseModel):
        return (
            type(value),
            value.model_dump(warnings=False),
            value.model_fields_set,
            getattr(value, "_request_id", None),
        )
    if isinstance(value, BaseException):
        response = getattr(value, "response", None)
        return type(value), str(value), getattr(value, "body", None), type(response), type(value.__cause__)
    if isinstance(value, httpx2.Headers):
        return value.raw
    return value if isinstance(value, str | bytes | int | float | type(None)) else (type(value), type(value).__mro__)


def caught(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return error


# -- the steps of the program: each returns what it saw -----------------------------------------------------------


def unary(world: World, api: Api) -> Any:
    return world.create(api)


def stream(world: World, api: Api) -> Any:
    found = world.create(api, stream=True)
    first = next(found)
    return [type(found), vars(found).keys(), first, list(found), next(found, "over"), found.response.is_closed]


def stream_in_odd_pieces(world: World, api: Api) -> Any:
    world.pieces = 7
    return list(world.create(api, stream=True))


def closed_twice(world: World, api: Api) -> Any:
    found = world.create(api, stream=True)
    next(found)
    found.close()
    found.close()
    return [caught(lambda: list(found)), found.response.is_closed]


def iterated_twice(world: World, api: Api) -> Any:
    found = world.create(api, stream=True)
    return [len(list(found)), list(found), list(iter(found))]


def raw_response(world: World, api: Api) -> Any:
    raw = world.create(api, variant="with_raw_response")
    again = pickle.loads(pickle.dumps(raw.http_response))
    same = raw.parse() is raw.parse()
    sent, response = raw.http_request, raw.http_response
    return [raw, raw.parse(), same, raw.headers, raw.status_code, raw.text, again.content, sent.content, type(response)]


def raw_response_stream(world: World, api: Api) -> Any:
    raw = world.create(api, variant="with_raw_response", stream=True)
    found = raw.parse()
    return [raw, type(found), raw.parse() is found, list(found), raw.http_response.is_closed]


def streaming_response(world: World, api: Api) -> Any:
    with world.create(api, variant="with_streaming_response") as response:
        return [response, response.status_code, response.json(), response.parse(), response.text(), response.is_closed]


def streaming_response_lines(world: World, api: Api) -> Any:
    with world.create(api, variant="with_streaming_response", stream=True) as response:
        return [response, list(response.iter_lines()), caught(lambda: list(response.iter_lines()))]


def streaming_response_bytes(world: World, api: Api) -> Any:
    with world.create(api, variant="with_streaming_response", stream=True) as response:
        return [list(response.iter_bytes()), response.http_response.num_bytes_downloaded]


def streaming_response_half_read(world: World, api: Api) -> Any:
    with world.create(api, variant="with_streaming_response", stream=True) as response:
        first = next(iter(response.iter_bytes()))
    return [first, response.http_response.is_closed]


def streaming_response_parsed(world: World, api: Api) -> Any:
    with world.create(api, variant="with_streaming_response", stream=True) as response:
        found = response.parse()
        return [type(found), list(found)]


def refused(world: World, api: Api) -> Any:
    found = []
    for status in (400, 401, 403, 404, 409, 422, 429, 500, 503):
        world.failures = [httpx2.Response(status, json={"error": {"message": "no", "type": "t", "code": "c"}})]
        found.append(caught(lambda: world.create(api)))
        world.failures = [httpx2.Response(status, text="<html>no</html>")]
        found.append(caught(lambda: world.create(api, stream=True)))
    return found


def retried(world: World, api: Api) -> Any:
    world.failures = [httpx2.Response(503, headers={"retry-after-ms": "1"}), httpx2.ReadTimeout("slow")]
    client = world.client(api).with_options(max_retries=2)
    return [api.method(client)(**api.arguments), len(world.requests)]


def lost(world: World, api: Api) -> Any:
    found = []
    for error in (httpx2.ConnectError("no"), httpx2.ReadTimeout("slow"), ValueError("odd")):
        world.failures = [error]
        found.append(caught(lambda: world.create(api)))
    return found


def not_json(world: World, api: Api) -> Any:
    found = []
    for answer in ({"text": "{"}, {"text": ""}, {"json": []}, {"json": None}, {"json": "x"}, {"content": b"\xff"}):
        world.failures = [httpx2.Response(200, **answer)]
        found.append(caught(lambda: world.create(api)))
    return found


def odd_streams(world: World, api: Api) -> Any:
    found = []
    for raw in ([b"data: {\n\n"], [b"event: error\ndata: x\n\n"], [b"\n\n"], [b"data: [1]\n\n"], [b"data: null\n\n"]):
        world.raw = raw
        found.append(caught(lambda: list(world.create(api, stream=True))))
    return found


def parsed(world: World, api: Api) -> Any:
    method = api.method(world.client(api), api.path.replace("create", "parse"))
    how = {"chat": "response_format", "responses": "text_format"}.get(api.name, "output_format")
    return [method(**api.arguments), caught(lambda: method(**api.arguments, **{how: Word}))]


def helper(world: World, api: Api) -> Any:
    method = api.method(world.client(api), api.path.replace("create", "stream"))
    with method(**api.arguments) as found:
        events = [event.model_dump(warnings=False) for event in found]
    return [type(found), events]


def helper_left(world: World, api: Api) -> Any:
    method = api.method(world.client(api), api.path.replace("create", "stream"))
    with method(**api.arguments) as found:
        next(iter(found))
    return [type(found), caught(lambda: list(found)), method(**api.arguments)]


def client_kinds(world: World, api: Api) -> Any:
    class Mine(type(world.client(api))):  # type: ignore[misc]
        def _prepare_options(self, options: Any) -> Any:
            options.headers = {**(options.headers or {}), "x-mine": "1"}
            return super()._prepare_options(options)

    base = world.client(api)
    mine = Mine(api_key="k", http_client=base._client, base_url=base.base_url)
    clients = [base, base.copy(), base.with_options(timeout=3, default_headers={"x-y": "z"}), mine, mine.copy()]
    calls = [(type(one).__name__, api.method(one)(**api.arguments)) for one in clients]
    return [calls, [caught(functools.partial(pickle.dumps, one)) for one in clients]]


def shapes(world: World, api: Api) -> Any:
    kinds = [type(world.client(api, is_async=is_async)) for is_async in (False, True)]
    methods = [getattr(kind, name) for kind in kinds for name in ("request", "post", "_build_request")]
    methods += [kind._process_response for kind in kinds]
    methods += [api.method(world.client(api, is_async=is_async)) for is_async in (False, True)]
    return [
        (m.__name__, m.__qualname__, m.__module__, m.__doc__, str(inspect.signature(m)), inspect.iscoroutinefunction(m))
        for m in methods
    ]


def extras(world: World, api: Api) -> Any:
    more = {"extra_headers": {"x-a": "b"}, "extra_query": {"q": "1"}, "extra_body": {"z": [1]}, "timeout": 5}
    return [world.create(api, **more), caught(lambda: world.create(api, nonsense=1))]


def copied(world: World, api: Api) -> Any:
    found = world.create(api, stream=True)
    again = copy.copy(found)
    return [type(again), type(again.response), list(found)]


STEPS = [
    unary, stream, stream_in_odd_pieces, closed_twice, iterated_twice, raw_response, raw_response_stream,
    streaming_response, streaming_response_lines, streaming_response_bytes, streaming_response_half_read,
    streaming_response_parsed, refused, retried, lost, not_json, odd_streams, parsed, helper, helper_left,
    client_kinds, shapes, extras, copied,
]  # fmt: skip


async def unary_async(world: World, api: Api) -> Any:
    return await world.create_async(api)


async def stream_async(world: World, api: Api) -> Any:
    found = await world.create_async(api, stream=True)
    first = await anext(found)
    return [type(found), first, [event async for event in found], await anext(found, "over"), found.response.is_closed]


async def closed_twice_async(world: World, api: Api) -> Any:
    found = await world.create_async(api, stream=True)
    await anext(found)
    await found.close()
    await found.close()
    return found.response.is_closed


async def raw_response_async(world: World, api: Api) -> Any:
    raw = await world.create_async(api, variant="with_raw_response")
    result = raw.parse()
    is_coroutine = inspect.isawaitable(result)
    return [raw, is_coroutine, await result if is_coroutine else result, raw.headers]


async def streaming_response_async(world: World, api: Api) -> Any:
    async with world.create_async(api, variant="with_streaming_response") as response:
        return [response, await response.json(), await response.parse(), await response.text()]


async def streaming_response_lines_async(world: World, api: Api) -> Any:
    async with world.create_async(api, variant="with_streaming_response", stream=True) as response:
        return [response, [line async for line in response.iter_lines()], response.is_closed]


async def streaming_response_bytes_async(world: World, api: Api) -> Any:
    async with world.create_async(api, variant="with_streaming_response", stream=True) as response:
        return [piece async for piece in response.iter_bytes()]


async def refused_async(world: World, api: Api) -> Any:
    found = []
    for failure in (httpx2.Response(400, json={"error": {"message": "no"}}), httpx2.ReadTimeout("slow"), OSError("x")):
        world.failures = [failure]
        try:
            await world.create_async(api, stream=True)
        except Exception as error:
            found.append(error)
    return found


async def helper_async(world: World, api: Api) -> Any:
    method = api.method(world.client(api, is_async=True), api.path.replace("create", "stream"))
    async with method(**api.arguments) as found:
        return [type(found), [event.model_dump(warnings=False) async for event in found]]


async def gathered(world: World, api: Api) -> Any:
    create = api.method(world.client(api, is_async=True))
    return await asyncio.gather(*(create(**api.arguments) for _ in range(5)))


ASYNC_STEPS = [
    unary_async, stream_async, closed_twice_async, raw_response_async, streaming_response_async,
    streaming_response_lines_async, streaming_response_bytes_async, refused_async, helper_async, gathered,
]  # fmt: skip


def openai_others(world: World, _: Api) -> Any:
    client = world.client("openai")
    azure = openai.AzureOpenAI(
        api_key="k", api_version="2024-10-21", base_url="http://local.test/v1", http_client=client._client
    )
    return [
        client.embeddings.create(model="e", input="a"),
        client.embeddings.with_raw_response.create(model="e", input="a").parse(),
        client.completions.create(model="e", prompt="a"),
        client.moderations.create(input="a"),
        list(client.models.list()),
        client.responses.retrieve("resp_1"),
        client.post("/chat/completions", cast_to=dict[str, object], body={"model": "m", "messages": []}),
        client.post("/chat/completions", cast_to=httpx2.Response, body={"model": "m", "messages": []}).json(),
        azure.chat.completions.create(**CHAT.arguments),
        client.chat.completions.create(model="m", messages=({"role": "user", "content": str(n)} for n in range(2))),
    ]


def anthropic_others(world: World, _: Api) -> Any:
    client = world.client("anthropic")
    return [
        client.messages.count_tokens(model="m", messages=MESSAGES.arguments["messages"]),
        client.messages.create(model="m", max_tokens=1, messages=({"role": "user", "content": "a"} for _ in range(1))),
        client.messages.create(**MESSAGES.arguments, tools=[TOOL]),
        client.post("/v1/messages", cast_to=dict[str, object], body=MESSAGES.arguments),
        list(client.beta.messages.tool_runner(**MESSAGES.arguments, tools=[])),
    ]


def run(step: Callable[..., Any], api: Api) -> Any:
    """What a step saw and sent."""
    world = World()
    seen = step(world, api)
    if inspect.iscoroutine(seen):
        seen = asyncio.run(seen)
    volatile = (b"idempotency-key", b"traceparent")
    wire = [
        (r.method, str(r.url), [h for h in r.headers.raw if not h[0].lower().endswith(volatile)], r.content)
        for r in world.requests
    ]
    return tell(seen), wire


CELLS = [(step, api) for step in (*STEPS, *ASYNC_STEPS) for api in (CHAT, RESPONSES, MESSAGES, BETA_MESSAGES)]
CELLS += [(openai_others, CHAT), (anthropic_others, MESSAGES)]


@pytest.mark.parametrize(
    ("step", "api"), CELLS, ids=lambda value: getattr(value, "name", getattr(value, "__name__", ""))
)
def test_step(step: Callable[..., Any], api: Api) -> None:
    """What a step of the program sees and sends is the same with us and without us."""
    bare = run(step, api)
    with watching() as watch:
        assert run(step, api) == bare
    assert len(watch.spans) == len(watch.records)


def test_the_program_is_observed() -> None:
    """The comparison is not an empty one: the program's calls are recorded while it runs."""
    with watching() as watch:
        for step, api in CELLS:
            run(step, api)
    assert len(watch.records) > 3 * len(CELLS) // 2
    assert anthropic.Anthropic._process_response.__name__ == "_process_response"
