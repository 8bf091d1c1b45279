"""``llmspan export`` in other formats: tables are read back by pandas and pyarrow, examples are in OpenAI's format."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.query.tables import DEFAULT_COLUMNS
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import NOON, full_trace, make_trace

FORMULA = make_trace(
    user_id="=HYPERLINK(1)", request_model='+1,"x"\ny', started_at=NOON + 2, usage=Usage(output_tokens=0)
)
RECORDS = [FORMULA, full_trace(started_at=NOON + 1), make_trace(attributes={"tenant": "a,b"})]


@pytest.fixture(autouse=True)
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LLMSPAN_SQLITE_PATH", str(tmp_path / "some.db"))
    store(tmp_path, *RECORDS)
    return str(tmp_path / "some.db")


def store(folder: Path, *records: ProviderTrace) -> None:
    backend = SQLiteBackend(folder / "some.db")
    backend.write(records)
    backend.shutdown()


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False, prog_name="llmspan")


def test_csv_is_read_back_by_pandas(tmp_path: Path) -> None:
    """Quotes, commas and line breaks survive; times are exact; what was not reported is empty and zero is zero."""
    pd = pytest.importorskip("pandas")
    result = call("export", "--format", "csv", "--no-escape-formulas", "-o", str(tmp_path / "out.csv"))
    assert (result.exit_code, result.stderr) == (0, f"3 records to {tmp_path / 'out.csv'}\n")
    frame = pd.read_csv(tmp_path / "out.csv", parse_dates=["started_at"], dtype_backend="numpy_nullable")
    assert list(frame.columns) == list(DEFAULT_COLUMNS)
    assert frame["id"].tolist() == [record.id for record in RECORDS]
    assert frame["request_model"].iloc[0] == FORMULA.request_model
    assert frame["started_at"].iloc[1] == pd.Timestamp("2026-01-31 12:00:00.000000001", tz="UTC")
    assert (frame["output_tokens"].tolist(), frame["input_tokens"].isna().tolist()) == ([0, 2, 5], [True, False, False])
    assert json.loads(frame["attributes"].iloc[2]) == {"tenant": "a,b"}


def test_csv_is_no_program(tmp_path: Path) -> None:
    """Texts that a spreadsheet would run get a quotation mark, unless exact ones are asked for; numbers have none."""
    output = call("export", "--format", "csv", "--columns", "user_id,request_model,output_tokens").stdout
    assert output.splitlines()[:2] == ["user_id,request_model,output_tokens", '\'=HYPERLINK(1),"\'+1,""x""']
    exact = call("export", "--format", "csv", "--columns", "user_id", "--no-escape-formulas").stdout
    assert exact.splitlines()[:2] == ["user_id", "=HYPERLINK(1)"]


@pytest.mark.parametrize("text", ["x\r=HYPERLINK(1)", "x\r\n=1+1", "x\n=1+1", "x\r", "\r", "\n=1+1", 'a"\r"b'])
def test_csv_line_ends_in_texts_begin_no_row(tmp_path: Path, text: str) -> None:
    """A text with line ends of any kind stays in its cell, where a reader finds it as it was."""
    pd = pytest.importorskip("pandas")
    store(tmp_path, make_trace(id="lines", user_id=text))
    words = ("export", "--format", "csv", "--columns", "user_id,id", "--where", "id:lines")
    assert call(*words, "--no-escape-formulas", "-o", str(tmp_path / "a.csv")).exit_code == 0
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as lines:
        assert list(csv.reader(lines)) == [["user_id", "id"], [text, "lines"]]
    assert (tmp_path / "a.csv").read_bytes().startswith(b'user_id,id\n"')
    frame = pd.read_csv(tmp_path / "a.csv")
    assert frame.to_numpy().tolist() == [[text, "lines"]]
    assert call(*words).stdout_bytes.decode().split("\n", 1)[1].startswith("\"'" if text[0] in "\r\n" else '"')


def test_parquet_is_read_back_by_pyarrow(tmp_path: Path) -> None:
    """The file has the types and values of `to_arrow`."""
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "out.parquet"
    assert call("export", "--format", "parquet", "-o", str(target)).exit_code == 0
    from llmspan.reader import Reader

    with Reader.from_env() as reader:
        assert parquet.read_table(target).equals(reader.to_arrow().read_all())
    piped = call("export", "--format", "parquet", "--columns", "id,request_json", "--where", "user_id=user-1")
    target.write_bytes(piped.stdout_bytes)
    assert parquet.read_table(target).to_pylist() == [{"id": RECORDS[1].id, "request_json": RECORDS[1].request_json}]


def test_json_lines_with_columns() -> None:
    """Only the named keys, in their order, costs among them."""
    pytest.importorskip("genai_prices")
    lines = call(
        "export", "--columns", "started_at,attributes,cost_amount", "--where", "-user_id:*"
    ).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"started_at": "2026-01-31T12:00:00.000000000Z", "attributes": {"tenant": "a,b"}, "cost_amount": "0.0000625"}
    ]


@pytest.mark.parametrize("words", [["--columns", "ids"], ["--format", "csv", "--columns", ""]])
def test_a_wrong_column_is_named(words: list[str]) -> None:
    """With the columns that there are, and exit code 2."""
    result = call("export", *words)
    assert (result.exit_code, "there are id, trace_id" in result.output) == (2, True)


# -- fine-tuning

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
]
CHAT: dict[str, Any] = {
    "model": "gpt-5",
    "tools": TOOLS,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "1+1?"}]},
        {"role": "assistant", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ],
}  # fmt: skip
EXPECTED = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "weight": 0, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "assistant", "content": "2.", "weight": 1},
    ],
    "tools": TOOLS,
}  # fmt: skip
MESSAGES = {
    "system": "Be brief.",
    "tools": [{"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "2"}]},
    ],
}  # fmt: skip
RESPONSES = {
    "instructions": "Be brief.",
    "tools": [{"type": "function", **TOOLS[0]["function"]}],
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "1+1?"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ],
}


def example(api: str, request: Any, response: Any, **fields: Any) -> ProviderTrace:
    payload = {"request_json": json.dumps(request), "response_json": json.dumps(response)}
    return make_trace(api=api, user_id="tuned", **(payload | fields))


ANSWER = {"choices": [{"message": {"role": "assistant", "content": "2."}, "finish_reason": "stop"}]}
CALLS = [
    example("chat_completions", CHAT, ANSWER),
    example("messages", MESSAGES, {"role": "assistant", "content": [{"type": "text", "text": "2."}]}),
    example("responses", RESPONSES, {"output": [{"type": "message", "role": "assistant",
            "content": [{"type": "output_text", "text": "2."}]}]}),
]  # fmt: skip


def tuned(tmp_path: Path, *records: ProviderTrace) -> Result:
    store(tmp_path, *records)
    return call("export", "--format", "openai-finetune", "--where", "user_id=tuned")


@pytest.mark.parametrize("record", CALLS, ids=lambda record: record.api)
def test_every_api_gives_the_same_example(tmp_path: Path, record: ProviderTrace) -> None:
    """A conversation with a tool, by chat completions, Responses and messages: one example, its last answer weighed."""
    (line,) = tuned(tmp_path, record).stdout.splitlines()
    assert json.loads(line) == EXPECTED
    validate(json.loads(line))


INTERACTION = {
    "system_instruction": "Be brief.",
    "tools": [{"type": "function", **TOOLS[0]["function"]}],
    "input": [
        {"type": "user_input", "content": [{"type": "text", "text": "1+1?"}]},
        {"type": "function_call", "id": "c1", "name": "add", "arguments": {"a": 1}},
        {"type": "function_result", "call_id": "c1", "name": "add", "result": "2"},
    ],
}
CONTENTS: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "tools": [{"functionDeclarations": [{**TOOLS[0]["function"], "parameters": {"type": "OBJECT"}}]}],
    "contents": [
        {"role": "user", "parts": [{"text": "1+1?"}]},
        {"role": "model", "parts": [{"text": "hm", "thought": True}, *(
            {"functionCall": {"name": name, "args": {"a": 1}}, "thoughtSignature": "c2ln"}
            for name in ("add", "mul", "add"))]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": name, "response": {"result": result}}}
            for name, result in (("add", 2), ("add", 3), ("mul", 4))]},
    ],
}  # fmt: skip


def test_an_interaction_gives_the_same_example(tmp_path: Path) -> None:
    """Its steps are the same conversation."""
    response = {"status": "completed", "steps": [
        {"type": "thought"}, {"type": "model_output", "content": [{"type": "text", "text": "2."}]}]}  # fmt: skip
    (line,) = tuned(tmp_path, example("interactions", INTERACTION, response)).stdout.splitlines()
    assert json.loads(line) == {
        **EXPECTED,
        "messages": [
            message
            | {"tool_calls": [{**call, "function": {**call["function"], "arguments": '{"a":1}'}} for call in calls]}
            if (calls := message.get("tool_calls"))
            else message
            for message in EXPECTED["messages"]
        ],
    }


def test_calls_without_ids_are_numbered(tmp_path: Path) -> None:
    """Google's contents tell answers by the function's name and their order, and have types in capital letters."""
    response = {"candidates": [{"content": {"role": "model", "parts": [{"text": "2."}]}, "finishReason": "STOP"}]}
    (line,) = tuned(tmp_path, example("generate_content", CONTENTS, response)).stdout.splitlines()
    found = json.loads(line)
    validate(found)
    assert found["tools"] == TOOLS
    messages = found["messages"]
    calls = [(call["id"], call["function"]["name"]) for call in messages[2]["tool_calls"]]
    assert calls == [("call_1", "add"), ("call_2", "mul"), ("call_3", "add")]
    answers = [(message["tool_call_id"], json.loads(message["content"])) for message in messages[3:6]]
    assert answers == [("call_1", {"result": 2}), ("call_3", {"result": 3}), ("call_2", {"result": 4})]
    assert messages[6] == {"role": "assistant", "content": "2.", "weight": 1}


SAID = {"candidates": [{"content": {"role": "model", "parts": [{"text": "2"}, {"text": "."}]}, "finishReason": "STOP"}]}


def contents(tmp_path: Path, *parts: list[dict[str, Any]], **request: Any) -> Result:
    """The example of a request to Google's API in which the user and the model take turns."""
    turns = [{"role": ("user", "model")[at % 2], "parts": one} for at, one in enumerate(parts)]
    return tuned(tmp_path, example("generate_content", {"contents": turns, **request}, SAID))


def test_texts_of_one_content_are_one_text(tmp_path: Path) -> None:
    """Google's parts may be cut within a word."""
    halves = [{"text": "Hello, wor"}, {"text": "ld"}]
    result = contents(tmp_path, halves, systemInstruction={"parts": [{"text": "Be "}, {"text": "brief."}]})
    assert json.loads(result.stdout)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello, world"},
        {"role": "assistant", "content": "2.", "weight": 1},
    ]


ADD, MUL = {"name": "add"}, {"name": "mul"}


@pytest.mark.parametrize(
    ("calls", "answers", "called", "answered"),
    [
        ([ADD | {"id": "c1"}], [ADD], ["c1"], ["c1"]),
        ([ADD], [ADD | {"id": "c1"}], ["c1"], ["c1"]),
        ([ADD | {"id": "call_1"}, MUL], [ADD | {"id": "call_1"}, MUL], ["call_1", "call_2"], ["call_1", "call_2"]),
        ([MUL, ADD | {"id": "call_1"}], [ADD, MUL], ["call_2", "call_1"], ["call_1", "call_2"]),
        ([ADD | {"id": "c1"}, ADD | {"id": "c2"}], [ADD, ADD | {"id": "c1"}], ["c1", "c2"], ["c2", "c1"]),
    ],
)
def test_calls_and_answers_have_the_same_ids(
    tmp_path: Path, calls: list[Any], answers: list[Any], called: list[str], answered: list[str]
) -> None:
    """An answer is told by its id, or by its name among all calls that have no answer; an id is given once."""
    asked = [{"functionCall": {**call, "args": {}}} for call in calls]
    results = [{"functionResponse": {**answer, "response": {}}} for answer in answers]
    line = json.loads(contents(tmp_path, [{"text": "1+1?"}], asked, results).stdout)
    validate(line)
    assert [call["id"] for call in line["messages"][1]["tool_calls"]] == called
    assert [message["tool_call_id"] for message in line["messages"][2:-1]] == answered


@pytest.mark.parametrize("answers", [[MUL], [ADD, ADD], [MUL | {"id": "c9"}]])
def test_an_answer_without_its_call_is_refused(tmp_path: Path, answers: list[Any]) -> None:
    """The format has no place for one."""
    results = [{"functionResponse": {**answer, "response": {}}} for answer in answers]
    result = contents(tmp_path, [{"text": "1+1?"}], [{"functionCall": ADD}], results)
    assert result.stderr == "calls that are no examples, an answer of a tool without its call: 1\n"


PICTURE = {"inlineData": {"mimeType": "image/png", "data": "QQ=="}}


@pytest.mark.parametrize(
    "request_parts",
    [
        {"systemInstruction": {"parts": [{"text": "Be brief."}, PICTURE]}},
        {"contents": [
            {"role": "user", "parts": [{"text": "1+1?"}]},
            {"role": "model", "parts": [{"functionCall": ADD}]},
            {"role": "user", "parts": [{"functionResponse": {**ADD, "response": {}, "parts": [PICTURE]}}]},
        ]},
    ],
)  # fmt: skip
def test_media_of_google_are_refused(tmp_path: Path, request_parts: dict[str, Any]) -> None:
    """Within an instruction or an answer of a function, as anywhere else."""
    request = {"contents": [{"role": "user", "parts": [{"text": "1+1?"}]}], **request_parts}
    result = tuned(tmp_path, example("generate_content", request, SAID))
    assert (result.stdout, result.stderr) == ("", "calls that are no examples, a part of type blob: 1\n")


def validate(line: dict[str, Any]) -> None:
    """What OpenAI documents of a line: https://platform.openai.com/docs/api-reference/fine-tuning/chat-input."""
    assert line.keys() <= {"messages", "tools", "parallel_tool_calls"}
    assert line["messages"][-1]["role"] == "assistant"
    called: set[str] = set()
    for message in line["messages"]:
        assert message["role"] in ("system", "user", "assistant", "tool")
        assert message.keys() <= {"role", "content", "tool_calls", "tool_call_id", "weight"}
        assert isinstance(message.get("content", ""), str)
        assert "weight" not in message or (message["role"], message["weight"] in (0, 1)) == ("assistant", True)
        if message["role"] == "tool":
            assert message["tool_call_id"] in called
        elif message["role"] != "assistant":
            assert message["content"]
        else:
            assert message.get("content") or message["tool_calls"]
        for one in message.get("tool_calls", []):
            assert (one["type"], one.keys()) == ("function", {"id", "type", "function"})
            assert isinstance(json.loads(one["function"]["arguments"]), dict)
            called.add(one["id"])
    for tool in line.get("tools", []):
        assert (tool["type"], isinstance(tool["function"]["name"], str)) == ("function", True)


IMAGE = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (example("chat_completions", CHAT, ANSWER, status="incomplete"), "status incomplete"),
        (example("chat_completions", CHAT, ANSWER, content="truncated"), "content truncated"),
        (example("chat_completions", CHAT, ANSWER, request_json=None), "no payload"),
        (example("embeddings", CHAT, ANSWER), "api embeddings"),
        (example("chat_completions", CHAT, {"choices": ANSWER["choices"] * 2}), "several answers"),
        (example("chat_completions", CHAT, {"choices": []}), "no answer"),
        (example("chat_completions", IMAGE, ANSWER), "a part of type uri"),
        (example("chat_completions", {"messages": CHAT["messages"][:1]}, ANSWER), "no message of a user"),
        (example("responses", RESPONSES | {"conversation": "c"}, ANSWER), "a conversation that the provider keeps"),
        (example("generate_content", {"contents": "hi", "cachedContent": "c"}, ANSWER),
         "a conversation that the provider keeps"),
        (example("chat_completions", {**CHAT, "tools": [{"type": "web_search"}]}, ANSWER), "a tool of type web_search"),
        (example("chat_completions", [], ANSWER), "a payload that is no JSON object"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_example_is_counted(tmp_path: Path, record: ProviderTrace, reason: str) -> None:
    """The reason and the number are on standard error, and no half example is written."""
    result = tuned(tmp_path, record)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"calls that are no examples, {reason}: 1\n"
