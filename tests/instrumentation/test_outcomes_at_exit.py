"""Programs that end, by themselves or by Ctrl-C, with streams open: each is one span and one record all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmspan.demo.server import DemoServer
from llmspan.reader import Reader
from streams import ALL, Api

ROOT = Path(__file__).parents[2]
READ = ("unread", "begun")
COLOURS = ("sync", "async")
CELLS = [(api, colour, read) for api in ALL for colour in COLOURS for read in READ]
cells = pytest.mark.parametrize(("api", "colour", "read"), CELLS, ids=lambda value: getattr(value, "name", value))

PREAMBLE = """
import asyncio, gc, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
import llmspan
provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))
llmspan.instrument(tracer_provider=provider, backends="sqlite")
import anthropic, openai

def method(client, path):
    for name in path.split("."):
        client = getattr(client, name)
    return client
"""
LEAVES = """
kept = []
for path, arguments in APIS:
    client = (anthropic.Anthropic if "messages" in path else openai.OpenAI)()
    for read in ("unread", "begun"):
        with llmspan.context(step_id=f"{path} sync {read}"):
            kept.append(method(client, path)(**arguments, stream=True))
        if read == "begun":
            next(kept[-1])

async def main():
    for path, arguments in APIS:
        client = (anthropic.AsyncAnthropic if "messages" in path else openai.AsyncOpenAI)()
        for read in ("unread", "begun"):
            with llmspan.context(step_id=f"{path} async {read}"):
                kept.append(await method(client, path)(**arguments, stream=True))
            if read == "begun":
                await anext(kept[-1])

asyncio.run(main())
"""
WAITS = """
import os, signal, threading
begun = threading.Event()

def interrupt() -> None:
    main = threading.main_thread().ident
    while begun.wait():  # until the main thread is reading from its socket again
        if "httpcore" in sys._current_frames()[main].f_code.co_filename:
            begun.clear()
            os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
for path, arguments in APIS:
    client = (anthropic.Anthropic if "messages" in path else openai.OpenAI)()
    try:
        with llmspan.context(step_id=path):
            for _ in method(client, path)(**arguments, stream=True):
                begun.set()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
"""


@dataclass
class Left:
    """What a program left behind."""

    code: int
    stderr: str
    spans: dict[str, list[dict[str, Any]]]
    database: Path

    def records(self, step: str) -> list[Any]:
        with Reader.from_env(backends="sqlite", sqlite_path=str(self.database)) as reader:
            return list(reader.list_by_step_id(step))


def start(body: str, folder: Path, server: DemoServer) -> subprocess.Popen[str]:
    apis = f"APIS = {[(api.path, api.arguments) for api in ALL]!r}\n"
    program = folder / "program.py"
    program.write_text(PREAMBLE + apis + body)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LLMSPAN_"))},
        "OPENAI_BASE_URL": server.openai_base_url,
        "ANTHROPIC_BASE_URL": server.anthropic_base_url,
        "OPENAI_API_KEY": "sk-planted-secret",
        "ANTHROPIC_API_KEY": "sk-ant-planted-secret",
        "LLMSPAN_SQLITE_PATH": str(folder / "traces.db"),
    }
    return subprocess.Popen(
        [sys.executable, "-X", "dev", str(program)],
        env=environ, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], folder: Path) -> Left:
    stdout, stderr = process.communicate(timeout=120)
    spans: dict[str, list[dict[str, Any]]] = {}
    for line in stdout.splitlines():
        span = json.loads(line)
        spans.setdefault(span["attributes"]["llmspan.step.id"], []).append(span)
    return Left(process.returncode, stderr, spans, folder / "traces.db")


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """One program that ends with sixteen streams open."""
    folder = tmp_path_factory.mktemp("exit")
    with DemoServer() as server:
        return finish(start(LEAVES, folder, server), folder)


@cells
def test_cell(api: Api, colour: str, read: str, left: Left) -> None:
    """A stream that is still open when the interpreter exits: one span, one record, closed_early."""
    step = f"{api.path} {colour} {read}"
    (span,) = left.spans[step]
    (record,) = left.records(step)
    assert span["end_time"]
    assert (record.status, span["attributes"]["llmspan.status"]) == ("closed_early", "closed_early")
    assert record.usage.output_tokens is None
    assert json.loads(record.request_json)["model"] == api.arguments["model"]
    assert (record.response_json is None) == (read == "unread")


def test_nothing_of_ours_is_said_at_exit(left: Left) -> None:
    """The program's exit code is its own, and no warning or traceback names us, also with ``-X dev``."""
    assert left.code == 0
    assert "llmspan" not in left.stderr.replace(sys.prefix, "")  # the environment may lie in a folder of that name


def test_ctrl_c(tmp_path: Path) -> None:
    """A real SIGINT while the program waits for the next event of a real connection: cancelled, with what had come."""
    with DemoServer(pace=60) as server:
        seen = finish(start(WAITS, tmp_path, server), tmp_path)
    assert (seen.code, seen.stderr) == (0, "interrupted\n" * len(ALL))
    for api in ALL:
        (record,) = seen.records(api.path)
        assert len(seen.spans[api.path]) == 1
        assert (record.status, record.error_type, record.chunk_count) == ("cancelled", "KeyboardInterrupt", 1)
