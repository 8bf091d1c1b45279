"""The first page of the site and the guides: their programs run, and print what the page shows.

A block with a title is a file; a `console` block is commands, each after `$ `, with what they print. Pages whose
packages are not installed are skipped here: `just guides` runs them, each beside its framework. With
LLMSPAN_TEST_WRITE_PAGES=1, what is printed is written into the page instead.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from integration.programs import NO_OTLP, ROOT, environment
from llmspan.demo.server import DemoServer
from polling import until

DOCS = ROOT / "docs"
PAGES = [DOCS / "index.md", *sorted((DOCS / "guides").glob("[!i]*.md"))]
_FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEEDS = re.compile(r"^<!-- needs: (.*) -->$", re.MULTILINE)
#: what differs from run to run, from machine to machine and from version to version
_VARYING = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T][\d:.]+)?|\b[\da-f]{8}-[\da-f-]{27}\b|\b[\da-f]{32}\b|(?<=_demo)\d+|[\d.,]+(?= m?s\b)"
    r"|(?<=genai-prices )[\d.]+|[█━]+\s+[\d.,]+(?=\s|$)|(?<=[a-z]/)\d[\d.]+|(?<=gpt-5.4-)[\d-]+|in [\d.]+s\b"
)


def needs(page: Path) -> list[str]:
    """The packages that a page's programs need and that are not installed."""
    listed = _NEEDS.search(page.read_text("utf-8"))
    return [name for name in (listed[1].split("; ") if listed else []) if not is_installed(name.partition("[")[0])]


def is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Each command of a block with the lines below it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    split = [part.partition("\n") for part in parts]
    return [(command, output.splitlines()) for command, _, output in split]


def steady(lines: list[str]) -> list[str]:
    """The lines less rules, empty ones and prices, with what varies made equal."""
    equal = [re.sub(r"\s+", " ", _VARYING.sub("*", line)).strip("─ ") for line in lines]
    return [line for line in equal if line and not line.startswith("cost ")]


def rewrite(page: Path, outputs: dict[str, list[str]]) -> None:
    """Write what each command printed below it, if that is not there already."""
    text = page.read_text("utf-8")
    for block in _CONSOLE.findall(text):
        lines: list[str] = []
        for command, expected in commands(block):
            printed = [line.rstrip("─ ").lstrip("─") for line in outputs[command] if not line.startswith("cost ")]
            is_same = steady(printed) == steady(expected)
            lines += [f"$ {command}", *(expected if is_same else filter(str.strip, printed))]
        text = text.replace(block, "\n".join(lines) + "\n")
    page.write_text(text, "utf-8")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Return when something listens on ``port``."""

    def listens() -> bool:
        assert process.poll() is None, process.communicate()[0]
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    until(listens, "nothing listens")


class Shell:
    """A folder with a page's files, in which its commands are run one after the other."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._port = free_port()
        self._servers: list[subprocess.Popen[str]] = []

    def run(self, command: str) -> list[str]:
        """What a command prints on either output; one with `&` at its end goes on, once it listens if it has a port."""
        has_port = "8000" in command
        command = command.replace("8000", str(self._port))
        process = subprocess.Popen(
            ["bash", "-c", command.removesuffix("&")], cwd=self._folder, env=self._env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        if command.endswith("&"):
            self._servers.append(process)
            if has_port:
                wait_for(self._port, process)
            return []
        printed, _ = process.communicate(timeout=120)
        return printed.replace(f"{self._folder}/", "").replace(str(self._port), "8000").splitlines()

    def run_until(self, command: str, expected: list[str]) -> list[str]:
        """The same; while a server runs, what a command reads may be stored a moment later."""
        deadline = time.monotonic() + 5
        while True:
            printed = self.run(command)
            is_reading = self._servers and command.startswith("llmspan ")
            if not is_reading or steady(printed) == steady(expected) or time.monotonic() > deadline:
                return printed

    def close(self) -> None:
        """End the servers, and what is left of their children."""
        for process in self._servers:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_shows_what_its_programs_print(page: Path, tmp_path: Path) -> None:
    """Each command of a page, in their order, prints the lines below it."""
    if missing := needs(page):
        pytest.skip(f"{', '.join(missing)} not installed: `just guides` runs this page")
    text = page.read_text("utf-8")
    for name, content in _FILE.findall(text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    with DemoServer() as provider:
        google = {"GOOGLE_GEMINI_BASE_URL": provider.anthropic_base_url, "GEMINI_API_KEY": "planted-secret"}
        env = environment(provider, tmp_path / "traces.db", **NO_OTLP, **google)
        shell = Shell(tmp_path, {**env, "COLUMNS": "120", "TZ": "UTC"})
        try:
            pairs = [pair for block in _CONSOLE.findall(text) for pair in commands(block)]
            outputs = {command: shell.run_until(command, expected) for command, expected in pairs}
        finally:
            shell.close()
    if os.environ.get("LLMSPAN_TEST_WRITE_PAGES"):
        rewrite(page, outputs)
    for command, expected in pairs:
        assert (command, steady(outputs[command])) == (command, steady(expected))
