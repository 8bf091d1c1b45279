"""Comparing two calls, and two runs step by step: what differs is named, the same is left out, all is bounded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llmspan import Reader
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.errors import RecordError
from llmspan.query.comparison import CallComparison, RunComparison
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import NOON, make_trace

TRACE = "0af7651916cd43dd8448eb211c80319c"


def chat(record_id: str, answer: str = "Sunny.", **overrides: Any) -> ProviderTrace:
    request: dict[str, Any] = {
        "model": "gpt-5", "temperature": 0.5,
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Weather?\nIn Oslo."}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    }  # fmt: skip
    request |= overrides.pop("request", {})
    response = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
    values: dict[str, Any] = {
        "api": "chat_completions", "request_json": json.dumps(request), "response_json": json.dumps(response),
        "provider": "openai", "usage": Usage(input_tokens=10, output_tokens=5, source="provider"),
    }  # fmt: skip
    return make_trace(id=record_id, **(values | overrides))


def reader_of(*records: ProviderTrace) -> Reader:
    backend = MemoryBackend()
    backend.write(records)
    return Reader(backend)


def compared(*records: ProviderTrace, **options: int) -> CallComparison:
    comparison = reader_of(*records).compare(records[0].id, records[1].id, **options)
    assert isinstance(comparison, CallComparison)
    return comparison


def test_two_calls() -> None:
    """Values, parameters, tools, lines of messages and of the answer, and numbers with their difference."""
    first = chat("first-call")
    second = chat(
        "second-call", "Rain.", status="incomplete", duration_ns=first.duration_ns + 5,
        usage=Usage(input_tokens=12, output_tokens=0, source="provider"),
        request={
            "temperature": 1, "seed": 7,
            "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Weather?\nIn Rome."}],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"a": 1}}}, {"name": "web"}],
        },
    )  # fmt: skip
    comparison = compared(first, second)
    assert [(one.name, one.second) for one in comparison.facts] == [("status", "incomplete")]
    parameters = [(one.name, one.first, one.second) for one in comparison.parameters]
    assert parameters == [("temperature", "0.5", "1"), ("seed", None, "7")]
    assert [(one.name, one.first is None) for one in comparison.tools] == [("weather", False), ("web", True)]
    assert comparison.same_messages == 1
    assert [(line.sign, line.text) for line in comparison.messages] == [
        ("@", "  user"), (" ", "Weather?"), ("-", "In Oslo."), ("+", "In Rome."),
    ]  # fmt: skip
    assert [(line.sign, line.text) for line in comparison.answer] == [
        ("@", "  assistant"),
        ("-", "Sunny."),
        ("+", "Rain."),
    ]
    numbers = {number.name: (number.first, number.second, number.difference) for number in comparison.numbers}
    assert numbers["input_tokens"] == (10, 12, 2)
    assert numbers["output_tokens"] == (5, 0, -5)
    assert numbers["cache_read_tokens"] == (None, None, None)
    assert numbers["duration_ns"][2] == 5
    assert not comparison.is_same
    json.dumps(comparison.to_dict())


def test_the_same_call() -> None:
    """Of equal calls nothing is shown but the numbers; a payload that is not there is named."""
    assert compared(chat("first-call"), chat("second-call")).is_same
    missing = compared(chat("first-call"), chat("second-call", request_json=None, response_json=None))
    assert missing.note == "the payload of second-call was not stored"


def test_long_conversations_are_bounded() -> None:
    """Texts of megabytes are cut before they are compared, and say so; lines have a limit."""
    long = "\n".join(f"line {at}" for at in range(3_000))
    first = chat("first-call", "x" * 3_000_000 + "a")
    second = chat("second-call", "x" * 3_000_000 + "b", request={"messages": [{"role": "user", "content": long}]})
    comparison = compared(first, second, most_lines=10)
    assert len(comparison.messages) == 10
    assert comparison.omitted_lines > 100
    assert "characters" in comparison.answer[-1].text
    assert len(json.dumps(comparison.to_dict())) < 100_000


def run(name: str, *calls: dict[str, Any]) -> list[ProviderTrace]:
    return [
        chat(f"{name}-call-{at}", run_id=name, started_at=NOON + at, trace_id=None, **call)
        for at, call in enumerate(calls)
    ]


def test_two_runs() -> None:
    """Steps of one name belong together, wherever they stand; a step more is on one side only; sums are of all."""
    first = run("one", {"step_id": "plan"}, {"step_id": "answer", "answer": "A"})
    second = run("two", {"step_id": "plan"}, {"step_id": "check"}, {"step_id": "answer", "answer": "B"})
    comparison = reader_of(*first, *second).compare("one", "two")
    assert isinstance(comparison, RunComparison)
    pairs = [(step.first_id, step.second_id, step.is_same) for step in comparison.steps]
    assert pairs == [
        ("one-call-0", "two-call-0", True), (None, "two-call-1", False), ("one-call-1", "two-call-2", False),
    ]  # fmt: skip
    numbers = {number.name: (number.first, number.second) for number in comparison.numbers}
    assert numbers["calls"] == (2, 3)
    assert numbers["input_tokens"] == (20, 30)
    bounded = reader_of(*first, *second).compare("one", "two", most_steps=1)
    assert isinstance(bounded, RunComparison)
    assert (len(bounded.steps), bounded.omitted_steps) == (1, 2)


def test_what_cannot_be_compared() -> None:
    """What is not there is named, and so is a call beside a run."""
    reader = reader_of(*run("one", {}))
    with pytest.raises(RecordError, match="no call, trace, run or conversation 'nothing'"):
        reader.compare("one", "nothing")
    with pytest.raises(RecordError, match="one is a call and the other a run"):
        reader.compare("one-call-0", "one")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints what differs, with escapes made visible, or JSON; what is not there exits with 1."""
    for name in [name for name in os.environ if name.startswith(("LLMSPAN_", "OTEL_"))]:
        monkeypatch.delenv(name)
    backend = SQLiteBackend(tmp_path / "x.db")
    backend.write([chat("first-call"), chat("second-call", "R\x1b[31m", request={"temperature": 1})])
    backend.write(run("one", {"step_id": "plan"}))
    backend.write(run("two", {"step_id": "plan"}, {"step_id": "check"}))
    backend.shutdown()

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["diff", *words, "--db", str(tmp_path / "x.db")], catch_exceptions=False)
        return done.exit_code, done.output

    code, text = call("first-call", "second-c")
    assert (code, "parameter temperature: 0.5 -> 1" in text, "    + R\\x1b[31m" in text) == (0, True, True)
    assert "step 2: chat gpt-5  only in B" in call("one", "two")[1]
    assert json.loads(call("one", "two", "--json")[1])["steps"][1]["first_id"] is None
    assert call("one", "nowhere")[0] == 1


def test_what_is_too_long_to_show_is_compared_all_the_same() -> None:
    """A difference behind the cut of a value, of a turn, or of the messages, is one."""
    long = "x" * 30_000
    values = compared(
        chat("first-call", request={"metadata": {"a": f"{long}ONE"}}),
        chat("other-call", request={"metadata": {"a": f"{long}TWO"}}),
    )
    assert ([change.name for change in values.parameters], values.is_same) == (["metadata"], False)
    messages = [{"role": "user", "content": f"turn {number}"} for number in range(1_002)]
    turns = compared(
        chat("first-call", request={"messages": messages}),
        chat("other-call", request={"messages": [*messages[:-1], {"role": "user", "content": "another"}]}),
    )
    assert "differs behind the first 1,000 messages" in turns.messages[0].text
    many = "\n".join(f"line {number}" for number in range(700))
    rest = compared(chat("first-call", many), chat("other-call", f"{many}\nmore"))
    assert "the rest is not compared" in rest.answer[-1].text
    added = compared(
        chat("first-call", request={"messages": [{"role": "user", "content": "a"}]}),
        chat("other-call", request={"messages": [{"role": "system", "content": many}]}), most_lines=1_000,
    )  # fmt: skip
    assert added.messages[-1].text == "... 200 more lines"


def test_runs_with_too_many_calls_are_refused() -> None:
    """A sum over a part of a run would be wrong, and its steps would be beside those of another place."""
    calls = [chat(f"call-{number}", run_id="long") for number in range(501)]
    with pytest.raises(RecordError, match="'long' has more than 500 calls"):
        reader_of(*calls, chat("short-call", run_id="short")).compare("long", "short")
