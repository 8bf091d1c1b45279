"""The command line, on a SQLite file with a few records in it, and on real programs where only these tell."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import COMMANDS, main, options, run, tail
from llmspan.cli.run import command_line, prepare, service_name
from llmspan.demo.server import DemoServer
from llmspan.errors import RetryableError, SettingsError
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
        (["show", "--backend", "nope"], 2, "no backend is called 'nope'"),
        (["show", "--db", "/nope.db"], 2, "does not exist"),
        (["stats", "--by", "colour"], 2, "cannot group by 'colour'"),
        (["stats", "--since", "yesterday"], 2, "'yesterday'"),
        (["tail", "--once", "--where", "colour=red"], 2, "KEY=VALUE"),
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


def test_stats_can_be_filtered(db: str) -> None:
    """Times and values choose what is summed."""
    (row,) = lines(call("stats", "--db", db, "--by", "", "--since", "2026-02-01", "--until", "2026-02-02", "--json"))
    assert row["calls"] == 1
    (row,) = lines(call("stats", "--db", db, "--by", "", "--where", "step_id=step-1", "--json"))
    assert row["calls"] == 2


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


# -- run ------------------------------------------------------------------------------------------------------------


def test_a_command_line_is_a_script_a_module_or_a_program(tmp_path: Path) -> None:
    """Scripts and modules run on this Python, all else is looked for on the PATH."""
    script = tmp_path / "app.py"
    script.touch()
    assert command_line(str(script), ["-x"]) == [sys.executable, str(script), "-x"]
    assert command_line("pkg", ["-x"], as_module=True) == [sys.executable, "-m", "pkg", "-x"]
    assert command_line("true", []) == [subprocess.check_output(["which", "true"], text=True).strip()]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/python3 -u bots/helper.py --m -m x", "helper"),
        ("/usr/bin/python3.11 -m pkg.mod a.py", "pkg.mod"),
        ("/bin/gunicorn -m app:app", "gunicorn"),
        ("/bin/uv run app.py", "app"),
        ("/usr/bin/python3", "python3"),
    ],
)
def test_a_service_is_named_after_what_is_started(command: str, name: str) -> None:
    """The script, else the module, else the program."""
    assert service_name(command.split()) == name


def test_run_sets_only_what_is_not_set() -> None:
    """Exporters are off without an endpoint, and what the user set stays."""
    environ = {"OTEL_METRICS_EXPORTER": "console", "PYTHONPATH": "/mine"}
    assert prepare(environ, ["app.py"]) == []
    first, here, mine = environ.pop("PYTHONPATH").split(os.pathsep)
    assert Path(first, "sitecustomize.py").is_file()
    assert (here, mine) == (str(Path.cwd()), "/mine")
    assert environ == {
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "app.py",
        "LLMSPAN_SUMMARY": "1",
    }
    named = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine", "LLMSPAN_SUMMARY": "0"}
    prepare(named, ["app.py"])
    assert "OTEL_SERVICE_NAME" not in named
    assert named["LLMSPAN_SUMMARY"] == "0"


def test_run_twice_puts_one_path_in_front() -> None:
    """A program that is started by another one under `run` gets the same PYTHONPATH."""
    environ: dict[str, str] = {}
    prepare(environ, ["a"])
    once = dict(environ)
    prepare(environ, ["a"])
    assert environ == once


GRPC, HTTP = "otlp_proto_grpc", "otlp_proto_http"


@pytest.mark.parametrize(
    ("installed", "given", "exporter", "protocol"),
    [
        ({HTTP}, None, "otlp", "http/protobuf"),
        ({GRPC, HTTP}, None, "otlp", None),
        ({GRPC}, None, "otlp", None),
        ({HTTP}, "http/protobuf", "otlp", None),
        ({HTTP}, "grpc", "none", None),
        (set[str](), None, "none", None),
    ],
)
def test_otlp_goes_by_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], given: str | None, exporter: str, protocol: str | None
) -> None:
    """With an endpoint OTLP is used if an exporter for the protocol is there; if not, the user is told."""
    monkeypatch.setattr(run, "_installed", lambda group: installed if group.endswith("exporter") else {"configurator"})
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318"}
    if given:
        environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = given
    notices = prepare(environ, ["app.py"])
    assert environ["OTEL_TRACES_EXPORTER"] == exporter
    assert environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") == protocol
    assert environ["OTEL_METRICS_EXPORTER"] == "none"
    assert ["no traces to http://collector:4318" in notice for notice in notices] == [True] * (exporter == "none")


def test_otlp_needs_the_distro(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configurator nothing would export: one notice for all signals says so."""
    monkeypatch.setattr(run, "_installed", lambda group: {HTTP} if group.endswith("exporter") else set[str]())
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    (notice,) = prepare(environ, ["app.py"])
    assert "no traces, metrics, logs" in notice
    assert "opentelemetry-distro is not installed" in notice


def test_run_checks_the_settings_first() -> None:
    """A program whose settings are wrong is not started."""
    with pytest.raises(SettingsError, match="LLMSPAN_CONTENT=all"):
        prepare({"LLMSPAN_CONTENT": "all"}, ["app.py"])
    result = call("run", "--backends", "nope", "python", "-c", "print('started')")
    assert (result.exit_code, result.stdout) == (2, "")
    assert call("run", "no-such-program-anywhere").exit_code == 127
    assert call("run", "no_such_script.py").exit_code == 127


def test_run_options_are_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The options win over the environment; the program's own options are not ours."""
    started: list[Any] = []
    monkeypatch.setattr(run, "_exec", lambda command, environ: started.append((command, environ)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMSPAN_CONTENT", "full")
    words = ["--backends", "sqlite,memory", "--db", "x.db", "--content", "metadata", "--no-summary"]
    result = call("run", *words, "-m", "pkg", "--db", "mine", "--", "-x")
    assert result.exit_code == 0
    ((command, environ),) = started
    assert command == [sys.executable, "-m", "pkg", "--db", "mine", "--", "-x"]
    assert {name: environ[name] for name in environ if name.startswith("LLMSPAN_")} == {
        "LLMSPAN_BACKENDS": "sqlite,memory",
        "LLMSPAN_SQLITE_PATH": "x.db",
        "LLMSPAN_CONTENT": "metadata",
        "LLMSPAN_SUMMARY": "0",
    }


def test_the_program_takes_our_place() -> None:
    """Exit codes and signals are the program's own, and SIGPIPE is as a shell would leave it."""
    script = "import os, signal, sys; os.write(1, b'%d' % os.getpid()); {}"

    def status(action: str) -> tuple[int, int, int]:
        command = [sys.executable, "-m", "llmspan.cli", "run", "--", sys.executable, "-c", script.format(action)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        output, _ = process.communicate()
        return process.pid, int(output), process.returncode

    pid, told, code = status("sys.exit(7)")
    assert (pid, code) == (told, 7)
    assert status("os.kill(os.getpid(), signal.SIGTERM)")[2] == -signal.SIGTERM
    piped = [sys.executable, "-m", "llmspan.cli", "run", "sh", "-c", "kill -PIPE $$"]
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})  # ClickHouse's engine blocks it in our thread
    try:
        assert subprocess.run(piped, check=False, capture_output=True).returncode == -signal.SIGPIPE
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
