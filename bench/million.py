"""What the commands take on a store of one million records, in SQLite and in Postgres.

    uv run python bench/million.py                        # fill both stores, time all commands, print the table
    uv run python bench/million.py --payload-share 1      # every record with 4 KB of payload, not one in ten
    uv run python bench/million.py --only export          # some of the commands
    uv run python bench/million.py --docs                 # the table of docs/performance.md, too

The records are of the last 30 days, of twenty models of two providers, each with usage of its own. Each command is a
process, timed from its start to its end; the best of ``--rounds`` counts, and the most memory that one took. CPU time
is that of the command, without a server's: on a busy machine it says more than the time does. *A bare loop* reads all
rows by the database's driver and writes each by ``json.dumps``: what an export without llmspan would take. The stores
are in a temporary directory, and are deleted at the end. The server is one of our own on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import report
from llmspan.backends import load_backends
from llmspan.backends.base import Backend
from llmspan.cli import COMMANDS
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace, new_id
from llmspan.usage import Usage
from records import make_trace
from stores.postgres import Server, execute

PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
DAY: Final = 86_400_000_000_000
SPAN: Final = 30 * DAY
BATCH: Final = 5_000
STORES: Final = ("sqlite", "postgres")
#: of which provider, and whether its usage tells the lifetimes of cache writes
MODELS: Final = [
    *(("openai", name) for name in (
        "gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5.1", "gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini", "o3",
        "o4-mini",
    )),
    *(("anthropic", name) for name in (
        "claude-opus-4-5", "claude-opus-4-1", "claude-opus-4-0", "claude-sonnet-4-5", "claude-sonnet-4-0",
        "claude-haiku-4-5", "claude-3-7-sonnet-latest", "claude-3-5-haiku-latest", "claude-3-5-sonnet-latest",
        "claude-3-opus-latest",
    )),
]  # fmt: skip


@dataclass
class Figure:
    """One command on one store."""

    command: str
    store: str
    seconds: float
    cpu_seconds: float
    memory_mib: float
    #: for those that go through all records: by time, and by CPU time
    records_per_s: float | None = None
    records_per_cpu_s: float | None = None


# -- the records


def records(count: int, share: float, payload_bytes: int, now: int) -> Iterator[ProviderTrace]:
    """``count`` records up to ``now``, the oldest first, of which ``share`` have payloads."""
    chance = random.Random(7)
    pool = [_payload(chance, payload_bytes) for _ in range(500)]
    templates = [_template(provider, model) for provider, model in MODELS]
    for at in range(count):
        template = templates[chance.randrange(len(templates))]
        request, response = pool[chance.randrange(len(pool))] if chance.random() < share else (None, None)
        yield replace(
            template,
            id=new_id(),
            trace_id=f"{chance.getrandbits(128):032x}",
            span_id=f"{chance.getrandbits(64):016x}",
            step_id=f"step-{at // 3}",
            run_id=f"run-{at // 60}",
            conversation_id=f"conversation-{at // 500}",
            agent_id=f"agent-{at % 50}",
            user_id=f"user-{at % 1000}",
            response_id=f"r_{chance.getrandbits(96):024x}",
            started_at=now - SPAN + SPAN * (at + 1) // count,
            duration_ns=chance.randrange(200_000_000, 20_000_000_000),
            status="error" if at % 97 == 0 else "ok",
            usage=Usage() if at % 97 == 0 else _usage(chance, template.provider),
            content="metadata" if request is None else "full",
            request_json=request,
            response_json=response,
        )


def _payload(chance: random.Random, size: int) -> tuple[str, str]:
    words = ["".join(chance.choices("etaoinshrdlucm", k=chance.randint(2, 11))) for _ in range(400)]
    texts = [" ".join(chance.choices(words, k=part // 5))[: part - 60] for part in (size * 3 // 4, size // 4)]
    request = {"model": "m", "messages": [{"role": "user", "content": texts[0]}]}
    return json.dumps(request), json.dumps({"id": "r", "choices": [{"message": {"content": texts[1]}}]})


def _template(provider: str, model: str) -> ProviderTrace:
    return make_trace(
        provider=provider,
        api="messages" if provider == "anthropic" else "chat_completions",
        request_model=model,
        response_model=model,
        source="assistant",
        attributes={"tenant": "t1"},
        stream=True,
        service_tier="standard" if provider == "anthropic" else "default",
        server_address=f"api.{provider}.com",
        server_port=443,
        sdk=f"{provider}/3.0.0",
        finish_reasons=("stop",),
        http_status=200,
        attempts=1,
        time_to_first_chunk_ns=412_345_678,
        chunk_count=187,
    )


def _usage(chance: random.Random, provider: str) -> Usage:
    fresh, cached, output = chance.randrange(1, 20_000), chance.randrange(0, 50_000), chance.randrange(1, 4_000)
    if provider == "openai":
        details: dict[str, Any] = {"prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0}}
        details["completion_tokens_details"] = {"reasoning_tokens": output // 3, "audio_tokens": 0}
        return Usage.from_raw({"prompt_tokens": fresh + cached, "completion_tokens": output, **details})
    written = chance.randrange(0, 3_000)
    lifetimes = {"ephemeral_5m_input_tokens": written // 3, "ephemeral_1h_input_tokens": written - written // 3}
    return Usage.from_raw(
        {
            "input_tokens": fresh, "cache_read_input_tokens": cached, "cache_creation_input_tokens": written,
            "cache_creation": lifetimes, "output_tokens": output, "service_tier": "standard", "inference_geo": "global",
        }
    )  # fmt: skip


# -- the stores


@contextmanager
def filled(store: str, options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """The environment of a store with the records, which is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="llmspan-million-") as folder, _place(store, Path(folder)) as environ:
        (backend,) = load_backends(Settings.from_env(**environ))
        started = time.perf_counter()
        fill(backend, options)
        seconds = time.perf_counter() - started
        if store == "postgres":
            execute(environ["postgres_dsn"], "VACUUM ANALYZE")
        print(f"{store}: {options.records} records written in {seconds:.0f} s", file=sys.stderr)
        yield {f"LLMSPAN_{name.upper()}": value for name, value in environ.items()}


@contextmanager
def _place(store: str, folder: Path) -> Iterator[dict[str, str]]:
    if store == "sqlite":
        yield {"backends": store, "sqlite_path": str(folder / "traces.db")}
        return
    server = Server(shared_buffers="512MB", max_wal_size="4GB", synchronous_commit="off").start()
    try:
        yield {"backends": store, "postgres_dsn": server.dsn()}
    finally:
        server.remove()


def fill(backend: Backend, options: argparse.Namespace) -> None:
    """Write the records by the backend, in large batches."""
    backend.open()
    batch: list[ProviderTrace] = []
    for trace in records(options.records, options.payload_share, options.payload_bytes, time.time_ns()):
        batch.append(trace)
        if len(batch) == BATCH:
            backend.write(batch)
            batch = []
    backend.write(batch)
    backend.shutdown()


# -- the commands

#: Runs a program and reports its memory. The system's own figure of a child, ``ru_maxrss``, begins with its parent's.
_MEASURED: Final = """
import sys
try:
    exec(sys.argv.pop(1))
finally:
    with open("/proc/self/status") as status:
        sys.stderr.write(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""
_COMMAND: Final = "from llmspan.cli import main; main()"
#: the same rows as those of ``export``, read by the driver alone
_BARE_LOOP: Final = """
import json, os
if "LLMSPAN_SQLITE_PATH" in os.environ:
    import sqlite3
    cursor = sqlite3.connect(os.environ["LLMSPAN_SQLITE_PATH"]).cursor()
else:
    import psycopg
    cursor = psycopg.connect(os.environ["LLMSPAN_POSTGRES_DSN"]).cursor("bare")
    cursor.itersize = 2000
cursor.execute("SELECT * FROM provider_traces ORDER BY started_at DESC, id DESC")
with open(os.devnull, "w") as stream:
    for row in cursor:
        stream.write(json.dumps(row, default=str) + "\\n")
"""
BARE_LOOP: Final = "a bare loop"


def commands(environ: dict[str, str]) -> dict[str, list[str]]:
    """The commands in the order in which they run, by the name that the table has for them."""
    variables = {key.removeprefix("LLMSPAN_").lower(): value for key, value in environ.items()}
    (backend,) = load_backends(Settings.from_env(**variables))
    listed = backend.list(limit=1000).traces[-1]
    backend.shutdown()
    found = {
        "show": ["show", "--last"],
        "show ID": ["show", listed.id],
        "show --step-id": ["show", "--step-id", str(listed.step_id)],
        "tail": ["tail", "--once"],
        "tail --where (equal)": ["tail", "--once", "--where", f"user:{listed.user_id}"],
        "tail --where (status, day)": ["tail", "--once", "--where", "status:error since:24h"],
        "tail --where (pattern, range, attribute)": ["tail", "--once", "--where", "model:gpt* tokens>100 tenant:t1"],
        "tail --where (no call)": ["tail", "--once", "--where", "tenant:nobody"],
        "tail --where (text, a day)": ["tail", "--once", "--where", 'since:24h "no such words"'],
        "show --conversation-id (500 calls)": ["show", "--conversation-id", str(listed.conversation_id)],
        "tail --where (run)": ["tail", "--once", "--where", f"run:{listed.run_id}"],
        "tail --where (text, all)": ["tail", "--once", "--all", "--where", '"no such words"'],
        "index --text": ["index", "--text"],
        "tail --where (text, all, by the index)": ["tail", "--once", "--where", '"no such words"'],
        "stats": ["stats"],
        "stats --by day,model": ["stats", "--by", "day,model"],
        "stats --by model,day --percentiles": ["stats", "--by", "model,day", "--percentiles", "--utc"],
        "stats --by model,day --percentiles --cost": [
            "stats",
            "--by",
            "model,day",
            "--percentiles",
            "--cost",
            "--utc",
        ],
        "stats --cost": ["stats", "--cost"],
        "export": ["export", "-o", os.devnull],
        BARE_LOOP: [BARE_LOOP],
        "prune": ["prune", "--older-than", "15d", "--yes"],
    }
    return {name: words for name, words in found.items() if words[0] in (*COMMANDS, BARE_LOOP)}


def timed(words: list[str], environ: dict[str, str]) -> tuple[float, float, float]:
    """Seconds, seconds of CPU time and MiB of one run.

    Raises:
        RuntimeError: it failed; the message says how.
    """
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("LLMSPAN_", "OTEL_"))}
    program = [_BARE_LOOP] if words[0] == BARE_LOOP else [_COMMAND, *words]
    command = [sys.executable, "-c", _MEASURED, *program]
    used, started = _cpu_seconds_of_children(), time.perf_counter()
    done = subprocess.run(command, env=bare | environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"llmspan {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return seconds, _cpu_seconds_of_children() - used, int(done.stderr.split()[-1]) / 1024


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(store: str, options: argparse.Namespace) -> list[Figure]:
    """The figures of one store."""
    figures: list[Figure] = []
    with filled(store, options) as environ:
        for name, words in commands(environ).items():
            if options.only and words[0] not in options.only and name not in options.only:
                continue
            if "by the index" in name and options.only and "index" not in options.only:
                continue  # it would refuse to read all texts
            rounds = 1 if words[0] in ("prune", "index") else options.rounds
            runs = [timed(words, environ) for _ in range(rounds)]
            seconds, cpu, memory = min(run[0] for run in runs), min(run[1] for run in runs), max(run[2] for run in runs)
            is_whole = words[0] in ("export", BARE_LOOP)
            rates = (options.records / seconds, options.records / cpu) if is_whole else (None, None)
            figures.append(Figure(name, store, seconds, cpu, memory, *rates))
            print(f"{store}: {name}: {seconds:.2f} s, {cpu:.2f} s of CPU time, {memory:.0f} MiB", file=sys.stderr)
    return figures


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table, a line a command."""
    stores = [store for store in STORES if any(one.store == store for one in figures)]
    heads = "".join(f" {store}, s | CPU, s | MiB |" for store in stores)
    lines = [f"| command |{heads}", "|---|" + "---:|---:|---:|" * len(stores)]
    by_name = {(one.command, one.store): one for one in figures}
    for name in dict.fromkeys(one.command for one in figures):
        cells = [_cells(by_name.get((name, store))) for store in stores]
        lines.append(f"| {f'*{name}*' if name == BARE_LOOP else f'`{name}`'} |{''.join(cells)}")
    rates = [
        f"{one.store} by {one.command} {one.records_per_s:,.0f} ({one.records_per_cpu_s:,.0f} a second of CPU time)"
        for one in figures if one.records_per_s and one.records_per_cpu_s
    ]  # fmt: skip
    return "\n".join(lines) + (f"\n\nRecords a second: {', '.join(rates)}." if rates else "")


def _cells(figure: Figure | None) -> str:
    if figure is None:
        return " - | - | - |"
    return f" {figure.seconds:,.2f} | {figure.cpu_seconds:,.2f} | {figure.memory_mib:,.0f} |"


def origin(options: argparse.Namespace) -> str:
    """When and on what the figures were measured."""
    share = f"{options.payload_share:.0%} of them with {options.payload_bytes:,} bytes of payload"
    return (
        f"{options.records:,} records, {share}. {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()} on"
        f" {platform.machine()}, {os.cpu_count()} processors with"
        f" {os.getloadavg()[0]:.0f} programs running on average, SQLite {sqlite3.sqlite_version}."
    )


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--payload-share", type=float, default=0.1, help="of the records, between 0 and 1")
    parser.add_argument("--payload-bytes", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", choices=STORES, action="append")
    parser.add_argument("--only", action="append", metavar="COMMAND")
    parser.add_argument("--docs", metavar="NAME", nargs="?", const="million", help="write the table to the page")
    options = parser.parse_args()
    if options.quick:
        options.records, options.rounds = 200, 1
    figures = [figure for store in options.store or STORES for figure in measure(store, options)]
    text = f"{table(figures)}\n\n{origin(options)}"
    report.give(options, [asdict(one) for one in figures], text)
    if options.docs:
        report.write_between(PAGE, options.docs, text)


if __name__ == "__main__":
    main()
