"""SDKs that are removed from ``sys.modules`` and imported anew are observed again, with all that belongs to them."""

from __future__ import annotations

import gc
import importlib
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
from llmspan.instrumentation.import_hooks import _finder, when_imported
from llmspan.instrumentation.openai import PROVIDER as OPENAI
from llmspan.instrumentation.patching import Patch, Patches
from llmspan.instrumentation.stainless.http_client import http_hooks
from streams import CHAT, MESSAGES, Api
from watching import Watch

CLIENTS = {"openai": ("OpenAI", CHAT), "anthropic": ("Anthropic", MESSAGES)}
EXTRAS = {
    "openai": ("openai.resources.responses.responses", "ResponsesConnectionManager", "_connect_ws"),
    "anthropic": ("anthropic.lib.tools._beta_runner", "BaseSyncToolRunner", "__run__"),
}
sdks = pytest.mark.parametrize("sdk", CLIENTS)


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """The packages as if they had never been imported; put back in the end."""

    def remove() -> dict[str, Any]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in packages}

    before = remove()
    try:
        yield
    finally:
        remove()
        sys.modules.update(before)


def call(sdk: Any, api: Api) -> None:
    http = sys.modules["httpx2"]
    transport = http.MockTransport(lambda _: http.Response(200, json=api.body))
    client = getattr(sdk, CLIENTS[sdk.__name__][0])(api_key="k", http_client=http.Client(transport=transport))
    api.method(client)(**api.arguments)


@sdks
def test_each_import_is_observed(sdk: str, watch: Watch) -> None:
    """The first one, the next ones, the first one still; submodules, too; nothing is patched twice."""
    api = CLIENTS[sdk][1]
    module, owner, name = EXTRAS[sdk]
    first = importlib.import_module(sdk)
    importlib.import_module(module)
    hooks = next(hook for hook in watch.hooks if hook.provider.name == sdk)
    for number in range(2):
        with without(sdk):
            again = importlib.import_module(sdk)
            assert again is not first
            call(again, api)
            patched = getattr(importlib.import_module(module), owner)
            assert hasattr(vars(patched)[name], "_llmspan_original")
        call(first, api)
        assert len(watch.records) == len(watch.spans) == 2 * (number + 1)
        applied = [(id(patch.owner()), patch.name) for patch in hooks._patches._applied]
        assert len(applied) == len(set(applied))
    assert {record.usage.output_tokens for record in watch.records} == {api.output_tokens}


@sdks
def test_an_import_under_observation_is_restored(sdk: str) -> None:
    """What was imported while calls were observed is the SDK's own afterwards, and the next import as well."""
    provider = {"openai": OPENAI, "anthropic": ANTHROPIC}[sdk]
    with without(sdk):
        hooks = provider.instrument(Watch().observer)
        base = importlib.import_module(f"{sdk}._base_client")
        assert hasattr(vars(base.SyncAPIClient)["request"], "_llmspan_original")
        hooks.remove()
        assert not hasattr(vars(base.SyncAPIClient)["request"], "_llmspan_original")
    with without(sdk):
        base = importlib.import_module(f"{sdk}._base_client")
        assert not hasattr(vars(base.SyncAPIClient)["request"], "_llmspan_original")
    assert _finder not in sys.meta_path


def test_a_new_http_library_is_observed(watch: Watch) -> None:
    """The HTTP client is imported anew together with the SDK."""
    with without("openai", "httpx2"):
        call(importlib.import_module("openai"), CHAT)
        assert hasattr(vars(sys.modules["httpx2"].Client)["send"], "_llmspan_original")
    assert len(watch.records) == 1
    assert sys.modules["httpx2"] is httpx2


def test_reloading_is_an_import(watch: Watch) -> None:
    """``importlib.reload`` executes the module again: its new classes are patched."""
    with without("openai"):
        base = importlib.import_module("openai._base_client")
        old = base.SyncAPIClient
        importlib.reload(base)
        assert base.SyncAPIClient is not old
        assert hasattr(vars(base.SyncAPIClient)["request"], "_llmspan_original")


def test_repeated_observation_does_not_grow() -> None:
    """Whoever instruments and uninstruments often leaves nothing behind, and one of several may go first."""
    before = list(sys.meta_path)
    for _ in range(20):
        first, second = OPENAI.instrument(Watch().observer), ANTHROPIC.instrument(Watch().observer)
        first.remove()
        assert http_hooks._patches._applied
        second.remove()
        assert http_hooks._patches._applied == []
    assert _finder._watched == {}
    assert sys.meta_path == before


def test_patches_hold_no_class() -> None:
    """A class that its program has let go of is gone, and what was known of its patches with the next ones."""

    def make() -> type:
        return type("Owner", (), {"method": lambda self: self})

    patches = Patches()
    for _ in range(5):
        owner = make()
        patches.apply([Patch(owner, "method", lambda original: lambda self: original(self))])
        gone = weakref.ref(owner)
        del owner
        gc.collect()
        assert gone() is None
    assert len(patches._applied) == 1


def test_a_watched_module_is_what_it_is_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loader, spec and source are the import system's own; it is reported once per import, after its execution."""
    (tmp_path / "watched_module.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[Any] = []
    cancel = when_imported("watched_module", lambda module: seen.append(module.VALUE))
    second = when_imported("watched_module", lambda module: seen.append(module))
    module = importlib.import_module("watched_module")
    assert seen == [1, module]
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert type(module.__loader__) is type(importlib.import_module("replay").__loader__)
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    cancel()
    del sys.modules["watched_module"]
    again = importlib.import_module("watched_module")
    assert seen == [1, module, again]
    second()
    del sys.modules["watched_module"]
    importlib.import_module("watched_module")
    assert len(seen) == 3


def test_a_module_that_is_not_there_is_not_there(watch: Watch) -> None:
    """A name that is watched and cannot be found raises what it raises otherwise."""
    cancel = when_imported("no_such_module_anywhere", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        importlib.import_module("no_such_module_anywhere")
    cancel()
