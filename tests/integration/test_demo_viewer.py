"""``llmspan demo --ui`` and ``--serve`` as processes: what they print, what is there, and that nothing is left."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest


@contextmanager
def demo(tmp_path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "llmspan.cli", "demo", *options]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()
        process.communicate()


def lines_until(process: subprocess.Popen[str], part: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    while part not in (line := process.stdout.readline()):
        assert line
        lines.append(line)
    return [*lines, line]


def addresses(lines: list[str]) -> dict[str, str]:
    words = " ".join(line for line in lines if line.startswith("export ")).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def ask_model(address: str) -> str | None:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(api_key="any", base_url=address, http_client=http_client) as client:
        reply = client.chat.completions.create(model="gpt-5.4", messages=[{"role": "user", "content": "Hi"}])
    return reply.choices[0].message.content


def test_the_demo_in_the_viewer(tmp_path: Path) -> None:
    """All kinds of calls, and a run of an agent as a tree whose failed path is seen; the server is there as well."""
    with demo(tmp_path, "--ui", "--serve") as process:
        lines = lines_until(process, "open http")
        assert ask_model(addresses(lines)["OPENAI_BASE_URL"])
        address = urlsplit(lines[-1].split()[1])
        with closing(http.client.HTTPConnection(f"{address.hostname}", address.port, timeout=30)) as connection:
            connection.request("GET", f"/?{address.query}")
            response = connection.getresponse()
            cookie = response.headers["Set-Cookie"].split(";")[0]
            response.read()
            connection.request("GET", "/json/run/demo-agent", headers={"Cookie": cookie})
            tree = json.loads(connection.getresponse().read())
            connection.request("GET", "/", headers={"Cookie": cookie})
            page = connection.getresponse().read().decode()
    assert (tree["sums"]["calls"], tree["sums"]["failures"]) == (4, 1)
    assert "execute_tool get_weather" in json.dumps(tree)
    assert page.count("<tr data-id=") == 11
    assert not list(tmp_path.glob("llmspan-demo-*"))


def test_the_server_of_the_demo(tmp_path: Path) -> None:
    """Two variables point a program at it."""
    with demo(tmp_path, "--serve") as process:
        variables = addresses(lines_until(process, "Ctrl-C"))
        bases = {"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"}
        assert set(variables) == bases | {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"}
        assert ask_model(variables["OPENAI_BASE_URL"])
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("options", [("--ui", "--json"), ("--serve", "python", "app.py")])
def test_options_that_exclude_each_other(options: tuple[str, ...]) -> None:
    from click.testing import CliRunner

    from llmspan.cli import main

    result = CliRunner().invoke(main, ["demo", *options])
    assert (result.exit_code, "--serve" in result.stderr) == (2, True)
