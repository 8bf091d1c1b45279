"""Every fenced block of the README and of the site: run, or at least read by what would read it.

Blocks that other tests run with what they print are in ``RUN``; here they are read as well. Of every page, commands are
parsed by the commands' own parsers, Python is compiled and its names of llmspan are looked up, and data is parsed. What
stands alone and needs no provider is run here, on a store with a few calls.
"""

from __future__ import annotations

import ast
import configparser
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import pytest
import yaml
from click.testing import CliRunner
from opentelemetry.sdk.trace import TracerProvider

import llmspan
from integration.programs import ROOT
from llmspan import lifecycle
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.settings import TABLE
from llmspan.settings_arguments import SettingsArguments
from records import full_trace, make_trace

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "collector-config/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
#: the tests that run the blocks of a page, and of which language
RUN = {
    "README.md": ("integration/test_readme.py", {"bash", "python"}),
    "docs/commands.md": ("integration/test_readme.py", {"bash", "python"}),
    "docs/context.md": ("integration/test_readme.py", {"bash", "python"}),
    "docs/spans.md": ("integration/test_readme.py", {"bash", "python"}),
    "docs/index.md": ("integration/test_guides.py", {"console", "python"}),
    "docs/guides/": ("integration/test_guides.py", {"console", "python"}),
    "docs/privacy.md": ("integration/test_docs.py", {"python"}),
    "docs/delivery.md": ("integration/test_processes.py", {"python"}),
    "docs/postgres.md": ("integration/test_postgres_docs.py", {"sql"}),
    "docs/clickhouse.md": ("integration/test_clickhouse_docs.py", {"sql"}),
}
#: commands that read, count or delete, and end
ENDING = {"show", "stats", "tail", "export", "delete", "prune", "status", "index", "annotate", "diff", "dashboards"}
#: what a shell puts between two commands
_BETWEEN = {"&&", "||", "|", ";", "&", ">", ">>"}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
VARIABLES = {name for setting in TABLE for name in setting.variables} | {"LLMSPAN_UI_PASSWORD"}
RECIPES = re.findall(r"^([\w-]+)[^:=]*:(?!=)", (ROOT / "justfile").read_text("utf-8"), re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: what stands after the fence, and what is in it."""

    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    """The blocks of a page; one within a list is indented."""
    found = re.findall(r"^( *)```([^\n]*)\n(.*?)^\1```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [
        Block(info.partition(" ")[0], re.sub(f"^{indent}", "", code, flags=re.MULTILINE))
        for indent, info, code in found
    ]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_elsewhere(page: Path) -> set[str]:
    """The languages whose blocks on this page another test runs."""
    return next((languages for prefix, (_, languages) in RUN.items() if name_of(page).startswith(prefix)), set())


def commands(code: str) -> Iterator[list[str]]:
    """Each simple command of lines for a shell, as words."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _BETWEEN:
                words.append(word)
            elif words:
                yield words
                words = []


def check_command(words: list[str]) -> None:
    """What is ours in a command exists: variables, commands, options, extras, recipes, scripts."""
    while words and (words[0] in ("export", "env") or re.match(r"[A-Z_]+=", words[0])):
        assert not words[0].startswith("LLMSPAN_") or words[0].partition("=")[0] in VARIABLES, words[0]
        words = words[1:]
    match words:
        case [program, *arguments] if Path(program).name == "llmspan":
            check_arguments(arguments)
        case ["uv", "run", "just", *recipes]:
            assert set(recipes) <= set(RECIPES), words
        case ["uv", "run", "python", script, *_]:
            assert (ROOT / script).is_file(), words
        case ["uv", "run", *rest]:
            check_command(rest)
        case [pip, "install", *packages] if Path(pip).name == "pip":
            asked = [name for package in packages for name in re.findall(r"^llmspan\[(.*)\]$", package)]
            assert set(",".join(asked).split(",")) - {""} <= set(EXTRAS), words
        case _:
            pass


def check_arguments(arguments: list[str]) -> None:
    """The parsers of the commands take them: the command and each of its options exist, and values are of its type."""
    command: click.Command = main
    rest = arguments
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, arguments
        command, rest = found, rest[1:]
    if isinstance(command, click.Group):
        return
    context = command.make_context(command.name, list(rest))
    program = context.params.get("command") or ()
    if arguments[0] == "demo" and program:
        check_command(list(program))


def check_names(code: str) -> None:
    """Imports from llmspan and ``llmspan.name`` lead to something, and functions are called with what they take."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "llmspan":
            for alias in node.names:
                assert hasattr(import_module(str(node.module)), alias.name), f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "llmspan":
                    import_module(alias.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("llmspan."):
            look_up(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("llmspan."):
            parameters = inspect.signature(look_up(ast.unparse(node.func))).parameters
            settings = SettingsArguments.__annotations__ if "Unpack" in str(parameters) else ()
            unknown = {keyword.arg for keyword in node.keywords} - {None, *parameters, *settings}
            assert not unknown, (ast.unparse(node.func), unknown)


def look_up(dotted: str) -> Any:
    """What ``llmspan.a.b`` names."""
    value: Any = llmspan
    for name in dotted.split(".")[1:]:
        if isinstance(value, ModuleType) and not hasattr(value, name):
            import_module(f"{value.__name__}.{name}")
        value = getattr(value, name)
    return value


def check_unit(code: str) -> None:
    """A unit of systemd, and the command that it starts."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(code)
    assert parser.sections()
    for section in parser.values():
        if "ExecStart" in section:
            check_command(shlex.split(section["ExecStart"]))


def check_text(code: str) -> None:
    """Text is for what is printed, and no commands but those of docs/cli.md, beside the forms that they have."""
    assert not re.search(r"^(pip|docker|\w+ -\w) ", code, re.MULTILINE)
    for line in code.splitlines():
        if line.startswith("llmspan ") and "[OPTIONS]" not in line:
            check_shell(line)


def check_console(code: str) -> None:
    for command in re.findall(r"^\$ (.*)", code, re.MULTILINE):
        for words in commands(command):
            check_command(words)


def check_shell(code: str) -> None:
    for words in commands(code):
        check_command(words)


CHECKS = {
    "bash": check_shell,
    "console": check_console,
    "text": check_text,
    "python": check_names,
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "ini": check_unit,
    "sql": lambda code: None,  # those of a store are run beside it
}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_is_read(page: Path) -> None:
    """Each has a language, and what reads that language takes it."""
    for block in blocks(page):
        CHECKS[block.language](block.code)
        assert block.language != "sql" or "sql" in run_elsewhere(page)


def python_left(page: Path) -> list[str]:
    """The blocks of Python of a page that no other test runs."""
    return [] if "python" in run_elsewhere(page) else [code for language, code in blocks(page) if language == "python"]


def commands_left(page: Path) -> list[list[str]]:
    """The commands of blocks of `bash` that end by themselves, need no server, and that no other test runs."""
    shell = "" if "bash" in run_elsewhere(page) else "".join(code for kind, code in blocks(page) if kind == "bash")
    found = [words[1:] for words in commands(shell) if words[0] == "llmspan"]
    return [words for words in found if words[0] in ENDING and "--backend" not in words and "--follow" not in words]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, whose SQLite file has a run of two calls; what a block sets up is closed at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMSPAN_BACKENDS", "sqlite")
    monkeypatch.setenv("LLMSPAN_SQLITE_PATH", str(tmp_path / "traces.db"))
    monkeypatch.setenv("LLMSPAN_STATUS_DIR", str(tmp_path))
    backend = SQLiteBackend(tmp_path / "traces.db")
    backend.write([full_trace(run_id="run-1"), make_trace(run_id="run-1", status="error", error_type="TimeoutError")])
    backend.shutdown()
    yield tmp_path
    lifecycle.close(30)


@pytest.mark.parametrize("page", [page for page in PAGES if python_left(page)], ids=name_of)
def test_python_that_no_other_test_runs_is_run(page: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, on a store with a run of two calls."""
    for code in python_left(page):
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(code, name_of(page), "exec"), names)
        if isinstance(provider := names.get("provider"), TracerProvider):
            provider.shutdown()
    capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_exist(page: Path) -> None:
    """`llmspan ...` in a sentence or a table names a command, and options that it has; `llmspan.name()` a function."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`llmspan ([a-z][^`]*)`", prose):
        name, *rest = code.split()
        command = main.get_command(click.Context(main), name)
        assert command is not None, code
        options = {option for parameter in command.params for option in parameter.opts}
        given = {word for word in rest if word.startswith("-") and word != "--"}
        assert name in ("run", "demo") or given <= options, code
    for code in re.findall(r"`(llmspan\.\w+)\(", prose):
        assert callable(look_up(code))


@pytest.mark.parametrize("page", [page for page in PAGES if commands_left(page)], ids=name_of)
def test_commands_that_no_other_test_runs_are_run(page: Path, store: Path) -> None:
    """Those that read or delete, in their order: they do it, or say that there is none, or that they must ask."""
    for words in commands_left(page):
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        excuse = re.search(r"no (such )?calls?|nothing is deleted", result.output)
        assert result.exit_code == 0 or excuse, (words, result.output)


def test_tests_run_what_they_are_said_to_run() -> None:
    """Each test that is named here for a page reads that page."""
    for page, (test, _) in RUN.items():
        assert (ROOT / page).exists()
        assert Path(page).name in (ROOT / "tests" / test).read_text("utf-8"), (page, test)


@pytest.mark.parametrize(
    "words",
    [
        "llmspan shwo --last", "llmspan show --newest", "llmspan stats --limit many", "llmspan demo llmspan run --no x",
        "LLMSPAN_BACKEND=sqlite llmspan doctor", 'pip install "llmspan[openia]"', "uv run just chekc",
    ],
)  # fmt: skip
def test_what_does_not_exist_is_found(words: str) -> None:
    """A command, an option, a value, a variable, an extra or a recipe that is not there is an error."""
    with pytest.raises((click.UsageError, AssertionError)):
        check_shell(words)


def test_names_that_do_not_exist_are_found() -> None:
    """So are a name and an argument of Python."""
    for code in ("llmspan.instrumnet()", "llmspan.instrument(backend='sqlite')", "from llmspan import Raeder"):
        with pytest.raises((AttributeError, ImportError, AssertionError)):
            check_names(code)
