"""Every command and every snippet of the README, and of the pages that go on from it, does what it says."""

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
#: what the README had room for once: their blocks run like its own
GUIDES = [(ROOT / "docs" / name).read_text() for name in ("commands.md", "context.md", "spans.md")]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", "\n".join([README, *GUIDES]), re.MULTILINE | re.DOTALL)
SNIPPETS = [code for language, code in BLOCKS if language == "python"]
COMMANDS = list(dict.fromkeys(line for language, code in BLOCKS if language == "bash" for line in code.splitlines()))
#: the project's own: environments, whose names begin with a dot, hold pages of others
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md"), *ROOT.glob(".github/**/*.md")]
)
#: what the README shows as the output of `llmspan show --last`
OUTPUT = next(code for language, code in BLOCKS if language == "text")


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
        (runs,) = [code for code in SNIPPETS if '"run-1"' in code]  # the run that a command shows
        assert run(sys.executable, "-c", runs, env=env, cwd=folder).returncode == 0
        yield folder, env


def test_the_first_screen(home: tuple[Path, dict[str, str]]) -> None:
    """The first snippet's call is what ``llmspan show --last`` shows, less the cost, which needs ``llmspan[cost]``."""
    shown = (home[0] / "shown.txt").read_text()
    lines = [steady(line) for line in shown.splitlines() if steady(line) and not line.startswith("cost ")]
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


def test_the_performance_figures_are_those_of_the_table() -> None:
    """The table that ``just bench`` writes has been written, and the README's figures are within what it says."""
    page = (ROOT / "docs" / "performance.md").read_text()
    table = page.partition("<!-- overhead: begin -->")[2].partition("<!-- overhead: end -->")[0].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines() if row.startswith("| `")]
    calls = [float(row[2]) for row in rows if not row[5]]
    chunks = [float(row[5]) for row in rows if row[5]]
    assert len(rows) > 8
    call_ms, low, high = map(float, re.findall(r"costs about ([\d.]+) ms.* stream ([\d.]+) to ([\d.]+) µs", README)[0])
    assert abs(sum(calls) / len(calls) / 1000 - call_ms) < 0.02
    assert (round(min(chunks)), round(max(chunks))) == (low, high)


def test_the_readme_is_short() -> None:
    """Whatever a page of ``docs`` says is there and not in the README."""
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    assert len(prose.split()) <= 650


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
