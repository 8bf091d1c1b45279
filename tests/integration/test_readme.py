"""Every command and every snippet of the README does what the README says."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.programs import NO_OTLP, ROOT, environment, run
from llmspan.demo.server import DemoServer

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SNIPPETS = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]
#: the project's own: environments, whose names begin with a dot, hold pages of others
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md"), *ROOT.glob(".github/**/*.md")]
)
#: what the README shows as the output of `llmspan show --last`
(OUTPUT,) = [code for language, code in BLOCKS if language == "text"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with an ``app.py`` and the calls of the README's first snippet, and the environment for it."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(ROOT / "examples" / "openai_stream.py", folder / "app.py")
    with DemoServer() as provider:
        env = environment(provider, folder / "traces.db", **NO_OTLP)
        first = run(sys.executable, "-c", SNIPPETS[0], env=env, cwd=folder)
        assert first.returncode == 0, first.stderr
        shown = run("llmspan", "show", "--last", env=env, cwd=folder)  # before any other test has called anything
        (folder / "shown.txt").write_text(shown.stdout)
        yield folder, env


def test_the_first_screen(home: tuple[Path, dict[str, str]]) -> None:
    """The first snippet's call is what ``llmspan show --last`` shows, in the order that the README shows it."""
    shown = (home[0] / "shown.txt").read_text()
    lines = [steady(line) for line in shown.splitlines() if steady(line)]
    assert lines == [steady(line) for line in OUTPUT.splitlines() if line]


def steady(line: str) -> str:
    """A line of output less rules, and with what differs from run to run made equal."""
    line = re.sub(r"\d{4}-\d\d-\d\d [\d:]{8}|[\w-]{36}|(?<=_demo)\d+|[\d.]+(?= ms)|(?<=/)[\d.]+", "*", line)
    return line.strip("─ ")


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets(code: str, home: tuple[Path, dict[str, str]]) -> None:
    """Every Python snippet runs as it stands, and says nothing on stderr."""
    folder, env = home
    done = run(sys.executable, "-c", code, env=env, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, home: tuple[Path, dict[str, str]]) -> None:
    """Every command of the README works as written, from a checkout's environment."""
    folder, env = home
    words = shlex.split(command)
    if words[:2] == ["pip", "install"]:  # from this checkout instead of the index: do its extras exist and resolve?
        words = [
            "uv",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            words[2].replace("llmspan", f"llmspan @ {ROOT.as_uri()}", 1),
        ]
        words[-1] = re.sub(r"llmspan @ (\S+?)\[(.*)\]$", r"llmspan[\2] @ \1", words[-1])
    elif words == ["uv", "run", "pytest"]:  # this is it
        commands = (ROOT / ".ci" / "run").read_text().splitlines()
        assert command in [line.partition(" || ")[0] for line in commands]
        return
    elif words[:2] == ["uv", "run"]:
        words = words[2:]
    done = run(*words, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_the_performance_table_is_there() -> None:
    """The table that ``just bench`` writes has been written."""
    table = README.partition("<!-- overhead: begin -->")[2].partition("<!-- overhead: end -->")[0]
    assert table.count("\n|") > 8


def test_generated_pages_are_up_to_date() -> None:
    """``docs/settings.md`` says what the settings table says."""
    done = run(sys.executable, "docs/generate.py", "--check", env={})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    """Every relative link in the documentation leads somewhere."""
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
