"""Estimates of tokens: asked for, marked as such, and in no sum unless they are wanted there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

import llmspan
from llmspan import _guard
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main, render
from llmspan.content import ContentPolicy
from llmspan.errors import SettingsError
from llmspan.estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT, Estimator, count_tokens
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import make_trace
from replay import Pieces, client_for
from streams import CHAT, MESSAGES, RESPONSES, Api
from unit.test_cli_listing import listed
from unit.test_cli_render import drawn
from watching import watching

ESTIMATES = {ESTIMATED_INPUT: 1234, ESTIMATED_OUTPUT: 56}


def silent(api: Api, *, stream: bool = False, **options: Any) -> tuple[ProviderTrace, Any]:
    """The record and span of a call whose provider reports no usage."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        if not stream:
            return httpx2.Response(200, json={**api.body, "usage": None})
        pieces = [piece for piece in api.stream if b'"prompt_tokens"' not in piece]
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(pieces))

    with watching(include_usage="off", **options) as watch:
        result = api.method(client_for(api.provider, httpx2.MockTransport(answer)))(**api.arguments, stream=stream)
        if stream:
            list(result)
        return watch.only()


def by_words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(("api", "stream"), [(CHAT, False), (CHAT, True), (RESPONSES, False), (MESSAGES, False)])
def test_a_call_without_usage_is_estimated(api: Api, stream: bool) -> None:
    """The estimates are in the details; the five columns, the source and the span say what the provider said."""
    record, span = silent(api, stream=stream, estimator=Estimator())
    usage = record.usage
    assert usage.details.keys() == ESTIMATES.keys()
    assert 0 < usage.details[ESTIMATED_INPUT] < 20
    assert 0 < usage.details[ESTIMATED_OUTPUT] < 20
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (None, None, "none")
    assert not any("estimated" in name or "gen_ai.usage" in name for name in span.attributes or {})
    assert ProviderTrace.from_json(record.to_json()) == record


def test_it_is_off_by_default() -> None:
    """Nothing is estimated unless it is asked for."""
    assert silent(CHAT)[0].usage.details == {}


def test_reported_usage_is_not_estimated() -> None:
    """Where the provider reports, nothing is added."""
    with watching(estimator=Estimator()) as watch:
        mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=CHAT.body))
        client_for("openai", mock).chat.completions.create(**CHAT.arguments)
    assert not ESTIMATES.keys() & watch.records[0].usage.details.keys()


def test_texts_that_are_not_stored_are_counted() -> None:
    """What may be stored does not change what was sent."""
    stored = silent(CHAT, estimator=Estimator())[0]
    withheld = silent(CHAT, estimator=Estimator(), policy=ContentPolicy(keep=False))[0]
    assert withheld.request_json is None
    assert withheld.usage.details == stored.usage.details


@pytest.mark.parametrize("function", [by_words, lambda text, model: len(text.split()), f"{__name__}:by_words"])
def test_a_function_of_the_programs_own(function: Any) -> None:
    """It gets the text, and the model if it takes one."""
    details = silent(CHAT, estimator=Estimator(function))[0].usage.details
    assert details == {ESTIMATED_INPUT: 1, ESTIMATED_OUTPUT: 2}


@pytest.mark.parametrize(
    "function", [lambda text: 1 / 0, lambda text: None, lambda text: -1, lambda text: True, lambda: 1, "no.such:thing"]
)
def test_a_function_that_fails_costs_the_estimate_only(function: Any) -> None:
    """The record is made, the failure is counted, the caller sees nothing of it."""
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json={**CHAT.body, "usage": None}))
    with watching(estimator=Estimator(function)) as watch:
        client_for("openai", mock).chat.completions.create(**CHAT.arguments)
        (record,) = watch.records
        assert _guard.failures() == {"estimate": 2}
        _guard.reset_error_counts()
    assert (record.status, record.usage.details) == ("ok", {})
    assert record.response_json is not None


def test_a_name_that_cannot_be_imported_is_an_error_at_start() -> None:
    """The error names the variable, the value and the remedy."""
    with pytest.raises(SettingsError, match=r"LLMSPAN_ESTIMATE_USAGE=no\.such:thing: .*name a function"):
        llmspan.instrument(estimate_usage="no.such:thing")
    with pytest.raises(SettingsError, match="that is str, not a function"):
        llmspan.instrument(estimate_usage="llmspan._version:__version__")


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("", 0, 0), ("The quick brown fox jumps over the lazy dog.", 9, 12), ("1234567", 3, 3), ("你好世界", 3, 5),
     ("Übergrößenträger", 3, 9), ("a" * 600, 80, 120), ("def f(x):\n    return x + 1\n", 8, 16)],
)  # fmt: skip
def test_the_built_in_rule(text: str, least: int, most: int) -> None:
    """Words, digits, scripts and code come out about right."""
    assert least <= count_tokens(text) <= most


def test_media_is_not_counted_as_text() -> None:
    """Base64 says nothing about tokens."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    request = json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, picture]}]})
    assert Estimator().estimate(request, None, None)[ESTIMATED_INPUT] < 20


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '"text"', None])
def test_what_has_no_text_has_no_estimate(text: str | None) -> None:
    """A body of another shape is not guessed at."""
    assert Estimator().estimate(text, text, None) == {}


def test_estimates_are_shown_as_such() -> None:
    """``show`` and ``tail`` mark them, and say that they are llmspan's."""
    record = make_trace(usage=Usage(details=ESTIMATES))
    assert "~1,234         -       -     ~56" in listed([record])[1]
    shown = " ".join(drawn(render.call(record)).split())
    assert "~1,234" in shown
    assert "~ is an estimate of llmspan" in shown
    assert "estimated_input_tokens" not in shown


def test_sums_have_them_only_if_asked(tmp_path: Path) -> None:
    """``stats`` leaves them out; ``--with-estimates`` adds them, and tells how much of the sum they are."""
    store = SQLiteBackend(tmp_path / "x.db")
    store.open()
    store.write([make_trace(), make_trace(usage=Usage(details=ESTIMATES))])
    store.shutdown()

    def sums(*options: str) -> dict[str, Any]:
        words = ["stats", "--db", str(tmp_path / "x.db"), "--json", *options]
        return json.loads(CliRunner().invoke(main, words, catch_exceptions=False).stdout)

    plain, added = sums(), sums("--with-estimates")
    assert (plain["input_tokens"], plain["output_tokens"]) == (10, 5)
    assert not ESTIMATES.keys() & plain.keys()
    assert (added["input_tokens"], added["output_tokens"]) == (1244, 61)
    assert (added[ESTIMATED_INPUT], added[ESTIMATED_OUTPUT]) == (1234, 56)
