"""The command line, on a SQLite file with a few records in it, and on real programs where only these tell."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.text import Text

from llmspan.backends.base import NO_RECORDS
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import COMMANDS, main, options, tail
from llmspan.demo.server import DemoServer
from llmspan.errors import RetryableError
from llmspan.query.statistics import PERIODS, Measures
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace, new_id
from llmspan.usage import Usage
from records import DAY, NOON, make_trace

ROOT = Path(__file__).parents[2]
HEAVY = ("anthropic", "genai_prices", "httpx2", "importlib.metadata", "openai", "opentelemetry", "rich", "sqlite3")

CHAT = make_trace(
    step_id="step-1",
    response_model="gpt-5-2025-08-07",
    request_json='{"model":"gpt-5","messages":[{"role":"user","content":"Hello there"}]}',
    response_json='{"choices":[{"message":{"role":"assistant","content":"General"}}]}',
)
MESSAGE = make_trace(
    step_id="step-1",
    provider="anthropic",
    api="messages",
    request_model="claude-sonnet-4-5",
    started_at=NOON + DAY,
    usage=Usage(input_tokens=1_000, cache_read_tokens=600, output_tokens=0, source="provider"),
)
FAILED = make_trace(request_model="odd", status="error", error_type="boom", started_at=NOON + 2 * DAY, usage=Usage())


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("LLMSPAN_", "OTEL_", "LETTA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A store with three records."""
    return store(tmp_path / "some.db", CHAT, MESSAGE, FAILED)


def store(path: Path, *traces: ProviderTrace) -> str:
    backend = SQLiteBackend(path)
    backend.write(traces)
    backend.shutdown()
    return str(path)


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False, prog_name="llmspan")


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- the group ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", ["import llmspan.cli", "from llmspan.cli import main; main(['--help'], None, None, False)"]
)
def test_the_command_line_is_light(statement: str) -> None:
    """Neither importing it nor printing its help loads anything heavy."""
    code = f"{statement}; import sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_every_command_is_there_and_says_what_it_does() -> None:
    """The help lists all commands with their first sentence uncut, and the version is told."""
    shown = call("--help").output
    assert "..." not in shown.split("Commands:")[1]
    for name in COMMANDS:
        assert f"\n  {name} " in shown
        assert call(name, "--help").exit_code == 0
    assert "\n  llmspan run -m package\n" in call("run", "--help").output
    assert call("--version").output.startswith("llmspan, version ")
    assert call("unheard-of").exit_code == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["show", "--backend", "nope"], 2, "unknown backend 'nope'"),
        (["show", "--db", "/nope.db"], 2, "does not exist"),
        (["stats", "--by", "statsu"], 2, "cannot group by 'statsu'"),
        (["stats", "--since", "yesterday"], 2, "'yesterday'"),
        (["tail", "--once", "--where", "tokens>red"], 2, "'red' is not a whole number"),
        (["show"], 1, "no calls in sqlite"),
    ],
)
def test_mistakes_are_one_clear_line(words: list[str], code: int, told: str) -> None:
    """Each mistake has its exit code, and the message comes last, on stderr."""
    result = call(*words)
    assert result.exit_code == code
    assert told in result.stderr.splitlines()[-1]


def test_an_unreachable_backend_is_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is away is told apart from wrong settings."""

    def away(**settings: object) -> Reader:
        raise RetryableError("the database does not answer")

    monkeypatch.setattr(Reader, "from_env", away)
    result = call("show")
    assert (result.exit_code, result.stderr) == (3, "Error: the database does not answer\n")


# -- reading --------------------------------------------------------------------------------------------------------


def test_show_by_id_prefix_and_step(db: str) -> None:
    """A call is found by its id, by the beginning of it, and by its step, which may have several."""
    for text in (CHAT.id, CHAT.id[:20]):
        shown = call("show", "--db", db, text).output
        assert "Hello there" in shown
        assert "General" in shown
    both = call("show", "--db", db, "--step-id", "step-1", "--json")
    assert [one["id"] for one in lines(both)] == [CHAT.id, MESSAGE.id]


def test_show_without_words_is_the_last(db: str) -> None:
    """`show`, `show --last` and `show --json` mean the newest call."""
    assert FAILED.id in call("show", "--db", db).output
    assert FAILED.id in call("show", "--db", db, "--last").output
    result = call("show", "--db", db, "--json")
    assert ProviderTrace.from_json(result.stdout) == FAILED


def test_show_the_newest_of_some(db: str) -> None:
    """`--where` shows the newest call that it means, `--failed` the newest that failed; both together are both."""
    assert lines(call("show", "--db", db, "--where", "step:step-1", "--json"))[0]["id"] == MESSAGE.id
    assert lines(call("show", "--db", db, "--where", "-model:claude*", "--where", "cached:none", "--json"))[0]
    assert lines(call("show", "--db", db, "--failed", "--json"))[0]["id"] == FAILED.id
    assert lines(call("show", "--db", db, "--last", "--where", '"hello"', "--all", "--json"))[0]["id"] == CHAT.id
    result = call("show", "--db", db, "--failed", "--where", "provider:anthropic")
    assert (result.exit_code, "no such calls in sqlite" in result.stderr) == (1, True)
    assert call("show", "--db", db, "--failed", CHAT.id).exit_code == 2


def test_words_around_a_match(db: str) -> None:
    """A text that is searched for is shown in its place, by `tail` below the call and by `show` above it."""
    query = "--db", db, "--where", '"HELLO"', "--all"
    for command in (("tail", "--once"), ("show",)):
        shown = [line.strip() for line in call(*command, *query).output.splitlines()]
        assert [line for line in shown if line.startswith("request: ")] == ["request: Hello there"]


def test_text_index(db: str) -> None:
    """With an index, free text needs neither a time nor `--all`; without it again, it does."""
    assert "has text index" in call("index", "--text", "--db", db).output
    assert [one["id"] for one in lines(call("tail", "--once", "--db", db, "--where", '"hello"', "--json"))] == [CHAT.id]
    assert json.loads(call("index", "--text", "--drop", "--db", db, "--json").stdout)["text_index"] is False
    assert call("tail", "--once", "--db", db, "--where", '"hello"').exit_code == 2
    assert call("index", "--db", db).exit_code == 2


@pytest.mark.parametrize("command", ["show", "tail", "stats", "export", "delete"])
def test_free_text_has_a_bound(db: str, command: str) -> None:
    """What would read every payload there is says so, and takes a time, or `--all` where it deletes nothing."""
    refusal = call(command, "--db", db, "--where", '"hello"')
    assert refusal.exit_code == 2
    remedy = "as in since:7d" if command == "delete" else "as in since:7d, or give --all"
    assert f"free text would be looked for in all payloads; name a time, {remedy}" in " ".join(refusal.stderr.split())
    if command in ("stats", "export"):
        assert call(command, "--db", db, "--where", '"hello"', "--all").exit_code == 0
        assert call(command, "--db", db, "--where", '"hello" since:2026-01-31').exit_code == 0


@pytest.mark.parametrize("command", ["show", "stats", "delete"])
def test_an_empty_query(db: str, command: str) -> None:
    """An empty `--where`, which a program may make of an empty variable, never means all calls."""
    result = call(command, "--db", db, "--where", " ")
    assert (result.exit_code, "would mean all calls" in " ".join(result.stderr.split())) == (2, True)


def test_show_says_what_it_did_not_find(db: str) -> None:
    """Not found is 1, with the place that was looked in; a prefix that is too short is explained."""
    result = call("show", "--db", db, "0000000000")
    assert (result.exit_code, "no call '0000000000' in sqlite" in result.stderr) == (1, True)
    assert "at least 8 characters" in call("show", "--db", db, CHAT.id[:4]).stderr
    assert call("show", "--db", db, "--step-id", "no").exit_code == 1
    assert call("show", "--db", db, "--last", CHAT.id).exit_code == 2


def test_an_ambiguous_prefix_is_said(tmp_path: Path) -> None:
    """A prefix of several ids is not guessed at."""
    twin = make_trace(id=CHAT.id[:-1] + ("0" if CHAT.id[-1] != "0" else "1"))
    result = call("show", "--db", store(tmp_path / "twins.db", CHAT, twin), CHAT.id[:-1])
    assert (result.exit_code, "2 records" in result.stderr) == (1, True)


def test_db_alone_means_sqlite(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--db` reads that file even where another backend is the primary one."""
    monkeypatch.setenv("LLMSPAN_BACKENDS", "memory")
    assert CHAT.id in call("show", "--db", db, CHAT.id).output


def test_tail_once_prints_the_last_ones(db: str) -> None:
    """The oldest first, as many as asked, with filters."""
    assert [one["id"] for one in lines(call("tail", "--db", db, "--once", "--json"))] == [
        CHAT.id,
        MESSAGE.id,
        FAILED.id,
    ]
    assert [one["id"] for one in lines(call("tail", "--db", db, "--once", "-n", "1", "--json"))] == [FAILED.id]
    failed = lines(call("tail", "--db", db, "--once", "--where", "status=error", "--json"))
    assert [one["id"] for one in failed] == [FAILED.id]
    shown = call("tail", "--db", db, "--once").output.splitlines()
    assert len(shown) == 4
    assert shown[0].startswith("time ")
    assert "boom" in shown[3]


def test_tail_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded between two looks is printed once, a long call behind a short one too; old ones are not."""
    monkeypatch.setattr("time.time_ns", lambda: NOON + 1_000)
    old, short, long = (make_trace(id=new_id(), started_at=NOON - age) for age in (900 * 10**9, 1, 5 * 10**9))
    backend = SQLiteBackend(tmp_path / "tail.db")
    arrivals = iter([[old, short], [], [long], [CHAT]])
    with Reader(backend) as reader:
        found = tail.follow(reader, options.filters(None, None), set(), lambda: backend.write(next(arrivals)))
        assert [next(found).id, next(found).id, next(found).id] == [short.id, long.id, CHAT.id]


def test_tail_ends_quietly(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is how a tail ends: no traceback, exit code 0."""

    def interrupt(*given: object) -> Iterator[ProviderTrace]:
        raise KeyboardInterrupt

    monkeypatch.setattr(tail, "follow", interrupt)
    result = call("tail", "--db", db, "-n", "1", "--json")
    assert [one["id"] for one in lines(result)] == [FAILED.id]


def test_stats_are_sums(db: str) -> None:
    """Sums per group; what nobody reported is null in JSON and a dash in the table, zero is zero."""
    rows = {row["provider"]: row for row in lines(call("stats", "--db", db, "--by", "provider", "--json"))}
    assert (rows["openai"]["calls"], rows["openai"]["failures"], rows["openai"]["without_usage"]) == (2, 1, 1)
    assert (rows["anthropic"]["output_tokens"], rows["anthropic"]["reasoning_tokens"]) == (0, None)
    table = call("stats", "--db", db, "--by", "day,model").output
    assert "2026-02-01  claude-sonnet-4-5      1         0  1,000     600        -       0          -" in table
    assert "calls without usage, in no sum: 1" in table


def test_stats_with_percentiles(db: str) -> None:
    """Latencies and rates stand in place of tokens, fit 80 columns, and are all in the JSON."""
    table = call("stats", "--db", db, "--by", "provider", "--percentiles").output.splitlines()
    assert table[0].split("  ")[0] == "provider"
    assert " ".join(table[0].split()) == (
        "provider calls fail % p50 ms p95 ms p99 ms ttfc50 ttfc95 ttfc99 tok/s cache % retries"
    )
    assert table[1].split() == ["anthropic", "1", "0.0", "1.0", "1.0", "1.0", "-", "-", "-", "0.0", "60.0", "-"]
    rows = lines(call("stats", "--db", db, "--by", "provider", "--percentiles", "--json"))
    assert (rows[1]["failure_rate"], rows[1]["duration_ns_p99"], rows[1]["retries"]) == (0.5, 1_000_000, None)
    assert "duration_ns_p50" not in lines(call("stats", "--db", db, "--json"))[0]


def test_a_narrow_terminal_has_fewer_latencies() -> None:
    """Columns that there is no room for are left out, the least needed first, and named."""
    from llmspan.cli.stats import _latencies, _left_out
    from llmspan.cli.sums import Sums

    measures = Measures(duration_ns_p50=10**9, duration_ns_p95=10**10, duration_ns_p99=10**11, retries=5)
    row = replace(NO_RECORDS, group={"model": "a-model-of-20-letters"}, calls=1_000, measures=measures)
    left_out = _left_out({"model": [Text("a-model-of-20-letters")]}, Sums([row], None), _latencies, 80)
    assert left_out == ["retries", "ttfc99", "ttfc95", "cache %"]


def test_a_series_without_gaps(db: str) -> None:
    """`--fill` has a row for each day between the calls; a group with a key's name keeps its value."""
    rows = lines(call("stats", "--db", db, "--by", "day", "--fill", "--utc", "--json", "--until", "2026-02-05"))
    assert [row["calls"] for row in rows] == [1, 1, 1, 0, 0]
    assert rows[4] | {"day": None} == rows[3] | {"day": None}
    grouped = lines(call("stats", "--db", db, "--by", "input", "--json"))
    assert [row["input"] for row in grouped] == [None, "10", "1000"]
    assert list(lines(call("stats", "--db", db, "--by", "calls,input_tokens", "--json"))[1])[:2] == [
        "calls",
        "input_tokens",
    ]


def test_stats_can_be_filtered(db: str) -> None:
    """Times and values choose what is summed."""
    (row,) = lines(call("stats", "--db", db, "--by", "", "--since", "2026-02-01", "--until", "2026-02-02", "--json"))
    assert row["calls"] == 1
    (row,) = lines(call("stats", "--db", db, "--by", "", "--where", "step_id=step-1", "--json"))
    assert row["calls"] == 2


@pytest.mark.parametrize("zone", [[], ["--utc"]])
@pytest.mark.parametrize(
    ("period", "since"),
    [("week", "999999w"), ("day", "0001-01-01"), ("hour", "1900-01-01"), ("month", "0001-01-01"), ("month", "999999w")],
)
def test_too_many_periods_are_an_error(db: str, period: str, since: str, zone: list[str]) -> None:
    """A series that cannot be filled from that early on is one clear line, also where no calendar has the year."""
    result = call("stats", "--db", db, "--by", period, "--fill", "--since", since, *zone)
    assert result.exit_code == 2
    assert f"more than 10000 of {period}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("zone", [[], ["--utc"]])
def test_series_of_early_years(tmp_path: Path, zone: list[str]) -> None:
    """Years are written with four digits, as databases do, and a series may have the early ones."""
    words = ["stats", "--db", store(tmp_path / "old.db", CHAT), "--by", "month", "--fill", "--since", "1500-01-01"]
    rows = lines(call(*words, "--json", *zone))
    assert (rows[0]["month"], len(rows)) == ("1500-01", 526 * 12 + 1)
    assert [PERIODS[name](datetime(7, 8, 9, 1, tzinfo=UTC)) for name in PERIODS] == [
        "0007-08-09T01:00", "0007-08-09", "0007-08-06", "0007-08",
    ]  # fmt: skip


def test_stats_with_cost(db: str) -> None:
    """Prices are added per group; calls without one are counted with the reason, never as 0."""
    pytest.importorskip("genai_prices")
    rows = {row["model"]: row for row in lines(call("stats", "--db", db, "--cost", "--json"))}
    assert rows["claude-sonnet-4-5"]["cost_usd"] == "0.00138"  # 400 at $3 and 600 at $0.30 per million
    assert rows["gpt-5-2025-08-07"]["cost_usd"] == "0.0000625"
    assert (rows["odd"]["cost_usd"], rows["odd"]["without_price"]) == (None, {"no usage": 1})
    assert "calls without a price, no usage: 1" in call("stats", "--db", db, "--cost").output


def test_export_is_whole_and_private(db: str, tmp_path: Path) -> None:
    """Every record with its payloads, byte for byte; the file is for its owner, even if it was open before."""
    target = tmp_path / "out.jsonl"
    target.touch(mode=0o644)
    assert call("export", "--db", db, "-o", str(target)).stderr == f"3 records to {target}\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    exported = target.read_text().splitlines()
    assert [ProviderTrace.from_json(line) for line in exported] == [FAILED, MESSAGE, CHAT]
    assert call("export", "--db", db).stdout.splitlines() == exported
    assert call("export", "--db", db, "-o", db).exit_code == 2
    assert call("export", "--db", db, "-o", str(tmp_path / "no" / "dir")).exit_code == 1


def test_moments_are_ages_or_dates() -> None:
    """Ages count back from now; dates are of the command's zone unless they say otherwise."""
    assert options.parse_time("2026-01-31T12:00") == NOON
    assert options.parse_time("2026-01-31T13:00:00.000001+01:00") == NOON + 1_000
    assert 0 < options.parse_time("1w") < options.parse_time("7h") < options.parse_time("1s")


# -- programs and demo ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", ["openai_stream.py", "anthropic_stream.py", "manual.py"])
def test_examples_are_recorded(example: str, tmp_path: Path) -> None:
    """Each example prints the answer and leaves one record with usage; it needs no key and no llmspan of its own."""
    path = tmp_path / "run.db"
    program = [str(ROOT / "examples" / example)]
    command = program if example == "manual.py" else ["-m", "llmspan.cli", "run", *program]
    with DemoServer() as server:
        environ = {
            **os.environ,
            "OPENAI_API_KEY": "demo",
            "ANTHROPIC_API_KEY": "demo",
            "OPENAI_BASE_URL": server.openai_base_url,
            "ANTHROPIC_BASE_URL": server.anthropic_base_url,
            "NO_PROXY": "127.0.0.1",
            "LLMSPAN_SQLITE_PATH": str(path),
        }
        done = subprocess.run([sys.executable, *command], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "A trace is a river" in done.stdout
    with Reader(SQLiteBackend(path)) as reader:
        (record,) = reader.iterate()
    assert (record.status, record.usage.source) == ("ok", "provider")
    if example != "manual.py":
        assert record.source == example.removesuffix(".py")
        assert "1 call, 0 failed" in done.stderr


def test_the_demo_records_what_it_calls(tmp_path: Path) -> None:
    """Every call of the demo is one record, with the status that it should have; nothing is left behind."""
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "llmspan.cli", "demo", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    records = [ProviderTrace.from_json(line) for line in done.stdout.splitlines()]
    assert {record.step_id: (record.provider, record.status) for record in records} == {
        "demo-chat": ("openai", "ok"),
        "demo-response": ("openai", "ok"),
        "demo-tool": ("openai", "ok"),
        "demo-closed-early": ("openai", "closed_early"),
        "demo-async": ("anthropic", "ok"),
        "demo-refused": ("anthropic", "error"),
        "demo-thinking": ("anthropic", "ok"),
    }
    assert len(records) == 7
    assert all(record.usage.source == "provider" for record in records if record.status == "ok")
    refused = next(record for record in records if record.step_id == "demo-refused")
    assert (refused.http_status, refused.attempts) == (529, 3)
    assert not list(tmp_path.glob("llmspan-demo-*"))


def test_the_demo_says_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SDKs the demo tells how to install them."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("llmspan.cli.demo.import_module", missing)
    result = call("demo")
    assert result.exit_code == 1
    assert 'openai is not installed; pip install "llmspan[openai]"' in result.stderr
