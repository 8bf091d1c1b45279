"""Who is calling: scopes nest, merge, end with their block, and never mix between tasks or threads."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context

from llmspan import call_context
from llmspan.call_context import CallContext, context, current, with_baggage
from llmspan.trace import KEYS

TEXTS = ["step_id", "run_id", "agent_id", "conversation_id", "user_id", "org_id", "call_type"]
FULL = {
    **{key: f"{key}-1" for key in TEXTS}, "agent_tags": ("a", "b"), "attributes": {"tier": "gold"},
    "llm_config": {"model": "m"}, "compaction_settings": [1], "billing_context": {"plan": "x"},
}  # fmt: skip


def test_nothing_is_set():
    """Outside of any block there is the empty scope."""
    assert current() == CallContext() == call_context.EMPTY


def test_the_keys_are_the_records():
    """A scope's keys are keys of the record, and ``context`` takes each of them."""
    names = [field.name for field in dataclasses.fields(CallContext)]
    assert set(names) <= set(KEYS)
    assert set(names) == FULL.keys()


def test_everything_given():
    """All that is given is there in the block, and gone behind it."""
    with context(**FULL):
        assert current() == CallContext(**FULL)
    assert current() == CallContext()


@pytest.mark.parametrize("key", FULL)
def test_the_inner_block_replaces(key):
    """Each key of the inner block replaces the outer one's, the others stay, and the outer one is back behind it."""
    new = {"attributes": {"tier": "tin"}, "agent_tags": ("c",)}.get(key, "new")
    with context(**FULL):
        with context(**{key: new}):
            assert current() == CallContext(**{**FULL, key: new})
        assert current() == CallContext(**FULL)


def test_attributes_are_merged():
    """Attributes of nested blocks are merged, the inner value wins, and no block changes another's."""
    given = {"a": 1, "b": 1}
    with context(attributes=given):
        with context(attributes={"b": 2, "c": 2}):
            assert current().attributes == {"a": 1, "b": 2, "c": 2}
            with context(attributes={}):
                assert current().attributes == {"a": 1, "b": 2, "c": 2}
        assert current().attributes == {"a": 1, "b": 1}
    assert given == {"a": 1, "b": 1}


def test_none_and_empty():
    """None does not unset what the outer block gave; an empty text, an empty list and a false value do."""
    with context(step_id="s", agent_tags=["a"], llm_config={"x": 1}):
        with context(step_id=None, agent_tags=None, llm_config=None):
            assert (current().step_id, current().agent_tags, current().llm_config) == ("s", ("a",), {"x": 1})
        with context(step_id="", agent_tags=[], llm_config=False):
            assert (current().step_id, current().agent_tags, current().llm_config) == ("", (), False)


def test_later_changes_of_the_callers_objects():
    """W23: what the caller's list and map become after the block began does not reach the scope."""
    tags, attributes = ["a"], {"k": 1}
    with context(agent_tags=tags, attributes=attributes):
        tags.append("b")
        attributes["k"] = 2
        assert (current().agent_tags, current().attributes) == (("a",), {"k": 1})


def test_tags_of_any_iterable():
    """Tags may come from a generator: it is read once, where the block begins."""
    with context(agent_tags=(tag for tag in "ab")):
        assert current().agent_tags == current().agent_tags == ("a", "b")


def test_an_exception_ends_the_block():
    """An exception passes through the block unchanged, and ends it."""
    error = RuntimeError("theirs")
    with pytest.raises(RuntimeError) as caught, context(step_id="s"):
        raise error
    assert caught.value is error
    assert current() == CallContext()


def test_as_decorator():
    """``context`` decorates a function, for each of its calls anew."""

    @context(step_id="s")
    def step() -> str | None:
        return current().step_id

    assert [step(), current().step_id, step()] == ["s", None, "s"]


def test_a_generator_that_ends_elsewhere():
    """A generator stepped in several contexts (a web framework's thread pool) ends without an error of ours."""

    def generator() -> Iterator[str | None]:
        with context(step_id="s"):
            yield current().step_id
            yield "second"

    steps = generator()
    assert contextvars.copy_context().run(next, steps) == "s"
    assert contextvars.copy_context().run(next, steps) == "second"
    assert contextvars.copy_context().run(next, steps, "over") == "over"
    assert current() == CallContext()


@pytest.mark.anyio
async def test_an_async_generator_that_is_closed_elsewhere():
    """The same for an async generator that another task closes."""

    async def generator() -> AsyncIterator[str | None]:
        with context(step_id="s"):
            yield current().step_id

    stream = generator()
    assert await asyncio.create_task(anext(stream)) == "s"  # type: ignore[arg-type]
    await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]
    assert current() == CallContext()


@pytest.mark.anyio
async def test_a_hundred_tasks():
    """A hundred tasks that interleave at every step each see their own scope, above the one that they share."""
    barrier = asyncio.Barrier(100)

    async def step(number: int) -> list[CallContext]:
        seen: list[CallContext] = []
        with context(step_id=f"s{number}", attributes={"n": number}):
            await barrier.wait()
            seen.append(current())
            with context(run_id=f"r{number}"):
                await barrier.wait()
                seen.append(current())
            await barrier.wait()
            seen.append(current())
        await barrier.wait()
        return [*seen, current()]

    with context(org_id="o", attributes={"shared": True}):
        results = await asyncio.gather(*map(step, range(100)))
    outer = CallContext(org_id="o", attributes={"shared": True})
    for number, seen in enumerate(results):
        mine = dataclasses.replace(outer, step_id=f"s{number}", attributes={"shared": True, "n": number})
        assert seen == [mine, dataclasses.replace(mine, run_id=f"r{number}"), mine, outer]


def test_a_hundred_threads():
    """A hundred threads that are in their blocks at once each see their own scope; a new thread begins with none."""
    barrier = Barrier(100, timeout=60)

    def step(number: int) -> list[str | None]:
        before = current().step_id
        with context(step_id=f"s{number}"):
            barrier.wait()
            inside = current().step_id
            barrier.wait()
        return [before, inside, current().step_id]

    with context(step_id="main"), ThreadPoolExecutor(100) as pool:
        results = list(pool.map(step, range(100)))
        assert current().step_id == "main"
    assert results == [[None, f"s{number}", None] for number in range(100)]


def test_a_thread_in_the_callers_context():
    """A thread that runs in a copy of the caller's context (``asyncio.to_thread``) has the caller's scope."""
    with context(run_id="r"):
        assert asyncio.run(asyncio.to_thread(current)).run_id == "r"


# -- baggage


@pytest.fixture
def carried() -> Iterator[None]:
    """Baggage as it comes from another service."""
    ctx = otel_context.get_current()
    for key, value in {"step_id": "b-step", "run_id": 7, "tenant": "acme", "secret": "hush", "agent_tags": "x"}.items():
        ctx = baggage.set_baggage(key, value, ctx)
    token = otel_context.attach(ctx)
    yield
    otel_context.detach(token)


@pytest.mark.usefixtures("carried")
def test_only_allowed_baggage():
    """Only the allowed keys are taken: those of a scope as text into their place, others into the attributes."""
    found = with_baggage(CallContext(), ["step_id", "run_id", "tenant", "missing"])
    assert found == CallContext(step_id="b-step", run_id="7", attributes={"tenant": "acme"})
    assert with_baggage(CallContext(), []) == CallContext()
    assert with_baggage(CallContext(), ["missing"]) == CallContext()


@pytest.mark.usefixtures("carried")
def test_baggage_never_replaces():
    """What the program set itself stays, an empty text too; and the scope in use is not changed."""
    mine = CallContext(step_id="", run_id="mine", attributes={"tenant": "own", "x": 1})
    kept = dataclasses.replace(mine)
    assert with_baggage(mine, ["step_id", "run_id", "tenant"]) == kept == mine
    assert with_baggage(mine, ["secret"]).attributes == {"tenant": "own", "x": 1, "secret": "hush"}
    assert mine == kept


@pytest.mark.usefixtures("carried")
def test_baggage_for_a_key_that_is_no_text():
    """A scope's key that is no text cannot come from baggage: its value is an attribute like any other."""
    found = with_baggage(CallContext(agent_tags=("a",)), ["agent_tags"])
    assert (found.agent_tags, found.attributes) == (("a",), {"agent_tags": "x"})


def test_no_baggage():
    """Without baggage the scope is handed back as it is."""
    mine = CallContext(step_id="s")
    assert with_baggage(mine, TEXTS) is mine
