"""Clients of both SDKs, sync and async: copied, subclassed, pickled, patched by others, left and observed again."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import anthropic
import httpx2
import openai
import pytest

from llmspan.instrumentation.stainless.websocket import CONNECTIONS
from streams import CHAT, MESSAGES, Api, json
from watching import Watch
from watching import watching as watching_with


class Kind(NamedTuple):
    """A kind of client."""

    sdk: Any
    api: Api
    is_async: bool

    @property
    def client(self) -> Any:
        names = {"openai": ("OpenAI", "AsyncOpenAI"), "anthropic": ("Anthropic", "AsyncAnthropic")}
        return getattr(self.sdk, names[self.sdk.__name__][self.is_async])

    @property
    def base(self) -> Any:
        """The class whose ``request`` is hooked."""
        return self.sdk._base_client.AsyncAPIClient if self.is_async else self.sdk._base_client.SyncAPIClient

    def make(self, kind: Any = None) -> Any:
        http = httpx2.AsyncClient if self.is_async else httpx2.Client
        return (kind or self.client)(
            api_key="k", base_url="http://local.test/v1", http_client=http(transport=httpx2.MockTransport(self.answer))
        )

    def answer(self, _: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=json.loads(json.dumps(self.api.body)))

    async def call(self, client: Any) -> Any:
        """One call, in whichever colour."""
        result = self.api.method(client)(**self.api.arguments)
        return await result if self.is_async else result


KINDS = [Kind(sdk, api, is_async) for sdk, api in ((openai, CHAT), (anthropic, MESSAGES)) for is_async in (False, True)]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.client.__name__)
#: modules that further hooks are in, beside each SDK's base client
MODULES = [*(f"openai.{name}" for name in CONNECTIONS), "anthropic.lib.tools._beta_runner"]


def watching() -> Any:
    return watching_with(include_usage="off")


@pytest.mark.anyio
@kinds
async def test_copies_and_subclasses_are_observed_like_the_client(kind: Kind) -> None:
    """``copy()``, ``with_options()``, ``copy.copy`` and subclasses, of instances made before and after us."""

    class Mine(kind.client):  # type: ignore[misc, name-defined]
        """A client of the user's own, with a ``request`` of its own on top."""

        seen = 0

        def request(self, *args: Any, **kwargs: Any) -> Any:
            self.seen += 1
            return super().request(*args, **kwargs)

    def family() -> list[Any]:
        client, mine = kind.make(), kind.make(Mine)
        return [client, client.copy(), client.with_options(timeout=3), copy.copy(client), mine, mine.copy()]

    before = family()
    with watching() as watch:
        clients = before + family()
        results = [await kind.call(client) for client in clients]
    assert {type(result) for result in results} == {type(results[0])}
    assert [type(client) for client in clients] == [*[kind.client] * 4, Mine, Mine] * 2
    assert [client.seen for client in clients if isinstance(client, Mine)] == [1] * 4
    assert [record.status for record in watch.records] == ["ok"] * len(clients)


@pytest.mark.anyio
@kinds
async def test_clients_gain_no_attribute(kind: Kind) -> None:
    """A client has the attributes, the ``repr`` and the ``dir`` of a bare one, also when it has been used."""

    async def facts() -> list[Any]:
        client = kind.make()
        await kind.call(client)
        return [sorted(vars(client)), dir(client), object.__repr__(client).partition(" object")[0]]

    bare = await facts()
    with watching():
        assert await facts() == bare


class Revived:
    """What makes a client of a user's own picklable: it is made anew."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> Any:
        return KINDS[self.number].make(PICKLABLE[self.number])


PICKLABLE = [
    type(f"Picklable{number}", (kind.client,), {"__reduce__": lambda self, number=number: (Revived(number), ())})
    for number, kind in enumerate(KINDS)
]


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(len(KINDS)), ids=[kind.client.__name__ for kind in KINDS])
async def test_pickling_a_client(number: int) -> None:
    """It fails as it fails bare; a user's client that can be pickled still can, and what comes of it is observed."""
    kind = KINDS[number]

    def failure(action: Callable[[Any], Any], client: Any) -> tuple[Any, str]:
        with pytest.raises(TypeError) as caught:
            action(client)
        return caught.type, str(caught.value)

    bare = failure(pickle.dumps, kind.make())
    with watching() as watch:
        assert failure(pickle.dumps, kind.make()) == bare
        client = kind.make(PICKLABLE[number])
        await kind.call(client)
        again = pickle.loads(pickle.dumps(client))
        await kind.call(again)
        await kind.call(copy.deepcopy(again))
    assert type(again) is type(client)
    assert [record.status for record in watch.records] == ["ok"] * 3


@pytest.fixture
def patch(kind: Kind) -> Iterator[Callable[[list[str]], Any]]:
    """Patches the base client's ``request`` as somebody else would, without a thought of us."""
    bare = vars(kind.base)["request"]

    def patch(calls: list[str]) -> Any:
        below = vars(kind.base)["request"]

        def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append("theirs")
            return below(self, *args, **kwargs)

        async def request_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append("theirs")
            return await below(self, *args, **kwargs)

        kind.base.request = request_async if kind.is_async else request
        return kind.base.request

    yield patch
    kind.base.request = bare


@pytest.mark.anyio
@kinds
async def test_a_patch_below_ours_stays(kind: Kind, patch: Callable[[list[str]], Any]) -> None:
    """Somebody who patched before us is called by us, once a call, and has his patch back when we leave, each time."""
    calls: list[str] = []
    theirs = patch(calls)
    for times in (1, 2):
        with watching() as watch:
            await kind.call(kind.make())
        assert vars(kind.base)["request"] is theirs
        assert (len(calls), len(watch.records)) == (times, 1)


@pytest.mark.anyio
@kinds
async def test_a_patch_on_top_of_ours_stays(kind: Kind, patch: Callable[[list[str]], Any]) -> None:
    """Somebody who patched after us keeps his patch when we leave; ours records nothing then, until we are back."""
    calls: list[str] = []
    with watching() as watch:
        theirs = patch(calls)
        await kind.call(kind.make())
    assert vars(kind.base)["request"] is theirs
    await kind.call(kind.make())
    assert (len(calls), len(watch.records)) == (2, 1)
    with watching() as again:
        await kind.call(kind.make())
    assert vars(kind.base)["request"] is theirs
    assert (len(calls), len(watch.records), len(again.records)) == (3, 1, 1)


@contextmanager
def all_patches() -> Iterator[list[tuple[Any, str, Any, Any]]]:
    """Every patch that is applied while both SDKs are observed: owner, name, original and replacement."""
    from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
    from llmspan.instrumentation.openai import PROVIDER as OPENAI
    from llmspan.instrumentation.stainless.http_client import http_hooks

    for module in MODULES:
        importlib.import_module(module)
    observer = Watch().observer
    hooks = [provider.instrument(observer) for provider in (OPENAI, ANTHROPIC)]
    try:
        applied = [patch for hook in (*hooks, http_hooks) for patch in hook._patches._applied]
        replacements = [(owner(), name, vars(owner())[name]) for owner, name, _ in applied]
        yield [(owner, name, replacement._llmspan_original, replacement) for owner, name, replacement in replacements]
    finally:
        for hook in hooks:
            hook.remove()


def test_what_is_patched_keeps_its_shape() -> None:
    """Signature, doc, names and colour of each patched function are its original's; resources are not touched."""

    def shape(function: Any) -> list[Any]:
        names = [getattr(function, name) for name in ("__name__", "__qualname__", "__module__", "__doc__")]
        return [*names, inspect.signature(function), inspect.iscoroutinefunction(function)]

    create = openai.resources.chat.Completions.create, anthropic.resources.Messages.create
    with all_patches() as patches:
        owners = {getattr(owner, "__name__", "") for owner, *_ in patches}
        assert {"SyncAPIClient", "AsyncAPIClient", "Stream", "AsyncStream", "ResponsesConnectionManager"} <= owners
        assert {"Client", "AsyncClient"} <= owners  # the HTTP client's
        for owner, name, original, replacement in patches:
            assert (owner, name, shape(replacement)) == (owner, name, shape(original))
        assert create == (openai.resources.chat.Completions.create, anthropic.resources.Messages.create)


def test_leaving_restores_every_attribute() -> None:
    """After ``remove`` each patched attribute is the very original, and its owner has no other; also a second time."""
    with all_patches() as patches:
        places = [(owner, name, original) for owner, name, original, _ in patches]
    before = [dict(vars(owner)) for owner, *_ in places]
    for _ in range(2):
        with all_patches() as patches:
            assert [(owner, name) for owner, name, *_ in patches] == [(owner, name) for owner, name, _ in places]
            assert all(vars(owner)[name] is replacement for owner, name, _, replacement in patches)
        assert all(vars(owner)[name] is original for owner, name, original in places)
        assert [dict(vars(owner)) for owner, *_ in places] == before
