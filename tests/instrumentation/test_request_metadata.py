"""What a request says about its user fills what the program's context leaves open."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

import llmspan
from llmspan.content import ContentPolicy
from llmspan.redaction import MASK, Redactor
from llmspan.trace import ProviderTrace
from replay import client_for
from streams import BETA_MESSAGES, CHAT, MESSAGES, RESPONSES, Api
from watching import Watch, watching

OPENAI = pytest.mark.parametrize("api", [CHAT, RESPONSES], ids=lambda api: api.name)
ANTHROPIC = pytest.mark.parametrize("api", [MESSAGES, BETA_MESSAGES], ids=lambda api: api.name)


def ask(api: Api, *, is_async: bool = False, **more: Any) -> None:
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=api.body))
    result = api.method(client_for(api.provider, mock, is_async=is_async))(**api.arguments, **more)
    if is_async:
        asyncio.run(_await(result))


async def _await(result: Any) -> None:
    await result


def recorded(api: Api, watch: Watch, **more: Any) -> ProviderTrace:
    ask(api, **more)
    return watch.only()[0]


@OPENAI
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("said", "user"),
    [
        ({"user": "u-1"}, "u-1"),
        ({"safety_identifier": "s-1"}, "s-1"),
        ({"user": "u-1", "safety_identifier": "s-1"}, "u-1"),
        ({"extra_body": {"user": "u-2"}}, "u-2"),
        ({"metadata": {"user_id": "m-1"}}, None),
        ({"user": ""}, None),
        ({}, None),
    ],
)
def test_the_user_of_an_openai_request(api: Api, is_async: bool, said: Any, user: str | None, watch: Watch) -> None:
    """``user``, else ``safety_identifier``, is the record's ``user_id``, and the span's."""
    ask(api, is_async=is_async, **said)
    record, span = watch.only()
    assert record.user_id == user
    assert (span.attributes or {}).get("user.id") == user


@OPENAI
def test_the_metadata_of_an_openai_request(api: Api, watch: Watch) -> None:
    """Each entry is an attribute; the context's of the same name stands."""
    with llmspan.context(attributes={"tenant": "context", "own": 1}):
        record = recorded(api, watch, metadata={"tenant": "request", "order": "7"})
    assert record.attributes == {"tenant": "context", "own": 1, "order": "7"}
    assert (watch.spans[0].attributes or {})["llmspan.attributes.order"] == "7"


@ANTHROPIC
@pytest.mark.parametrize("is_async", [False, True])
def test_the_user_of_an_anthropic_request(api: Api, is_async: bool, watch: Watch) -> None:
    """``metadata.user_id`` is the user; anything else there is an attribute."""
    ask(api, is_async=is_async, metadata={"user_id": "u-9", "team": "blue"})
    record = watch.records[0]
    assert (record.user_id, record.attributes) == ("u-9", {"team": "blue"})


@pytest.mark.parametrize(
    ("api", "said"), [(CHAT, {"user": "request"}), (MESSAGES, {"metadata": {"user_id": "request"}})]
)
def test_the_context_comes_first(api: Api, said: Any, watch: Watch) -> None:
    """What the program said around the call is not replaced."""
    with llmspan.context(user_id="context"):
        assert recorded(api, watch, **said).user_id == "context"


@pytest.mark.parametrize(
    ("api", "said"), [(CHAT, {"user": "u", "metadata": {"a": "b"}}), (MESSAGES, {"metadata": {"user_id": "u"}})]
)
def test_it_can_be_switched_off(api: Api, said: Any) -> None:
    """With ``LLMSPAN_REQUEST_METADATA=0`` a request says nothing about its user."""
    with watching(request_metadata=False) as watch:
        record = recorded(api, watch, **said)
    assert (record.user_id, record.attributes) == (None, {})


def test_it_is_bounded(watch: Watch) -> None:
    """At most sixteen entries, keys and values cut, and only scalars."""
    metadata: dict[str, Any] = {"nested": {"a": 1}, "list": [1], "k" * 100: "v" * 10_000, "n": 1, "t": True}
    metadata |= {f"m{number}": "x" for number in range(100)}
    record = recorded(CHAT, watch, user="u" * 10_000, metadata=metadata)
    assert record.user_id == "u" * 512
    assert len(record.attributes) <= 16
    assert record.attributes["k" * 64] == "v" * 512
    assert (record.attributes["n"], record.attributes["t"]) == (1, True)
    assert {"nested", "list"}.isdisjoint(record.attributes)


@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
def test_it_is_redacted(api: Api) -> None:
    """Keys are masked always, mail addresses and members with secrets by the rules that are on."""
    said = {"metadata": {"user_id": "ada@example.com", "mail": "bob@example.com", "password": "hunter2"}}
    with watching(policy=ContentPolicy(redact=Redactor(("email", "keys")))) as watch:
        ask(api, **said, **({"user": "ada@example.com"} if api is CHAT else {}))
    record, span = watch.only()
    assert record.user_id == MASK
    assert (record.attributes["mail"], record.attributes["password"]) == (MASK, MASK)
    assert "example.com" not in f"{record.attributes}{dict(span.attributes or {})}"


def test_a_key_for_a_user_is_masked(watch: Watch) -> None:
    """A vendor's key that was given as the user is never stored."""
    record = recorded(CHAT, watch, user="sk-live-0123456789abcdef")
    assert record.user_id == MASK


@pytest.mark.parametrize("said", [{"metadata": "text"}, {"metadata": None}, {"user": 7}, {"metadata": {1: "one"}}])
def test_odd_values_are_passed_over(said: dict[str, Any], watch: Watch) -> None:
    """A value of another type says nothing, and costs nothing."""
    record = recorded(CHAT, watch, extra_body=said)
    assert (record.user_id, record.attributes) == (None, {})
