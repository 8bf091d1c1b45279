"""Who of the package reads the environment, catches every exception, or imports a driver: each has a reason here."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "llmspan"

#: where ``os.environ`` or ``os.getenv`` is used
ENVIRONMENT = {
    "settings": "every setting",
    "lifecycle": "OTEL_SERVICE_NAME, as OpenTelemetry's SDK would",
    "pipeline.dead_letters": "XDG_STATE_HOME, where dead letters are",
    "backends.sqlite.backend": "XDG_DATA_HOME, where the file is",
    "sidecar.listen": "LISTEN_FDS, by which systemd hands over a socket",
    "cli.doctor": "OpenTelemetry's variables, to explain them",
    "cli.ui": "the findings of doctor",
    "cli.letta_table": "PGPASSWORD, to mask it",
    "cli.run": "the environment of the program that it starts",
    "cli.demo": "likewise",
}
#: where psycopg is imported: the package that is imported when a Postgres is opened, and one command
PSYCOPG = ("backends.postgres.", "cli.letta_table")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text("utf-8"))


@cache
def nodes() -> dict[str, list[ast.AST]]:
    return {name: list(ast.walk(tree)) for name, tree in modules()}


def modules_with(matches: Callable[[ast.AST], bool]) -> set[str]:
    return {name for name, found in nodes().items() if any(map(matches, found))}


def reads_environment(node: ast.AST) -> bool:
    names = ("environ", "getenv", "environb")
    if isinstance(node, ast.Attribute):
        return node.attr in names and isinstance(node.value, ast.Name) and node.value.id == "os"
    return isinstance(node, ast.ImportFrom) and node.module == "os" and any(a.name in names for a in node.names)


def swallows_everything(node: ast.AST) -> bool:
    """``except``, ``except Exception`` or ``except BaseException`` that does not raise again."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    named = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    is_blind = any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")) for kind in named
    )
    return is_blind and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))


def imports_psycopg(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] == "psycopg" for alias in node.names)
    return isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] == "psycopg"


def test_who_reads_the_environment() -> None:
    assert modules_with(reads_environment) == set(ENVIRONMENT)


def test_one_module_swallows_exceptions() -> None:
    assert modules_with(swallows_everything) == {"_guard"}


def test_who_imports_psycopg() -> None:
    assert {name for name in modules_with(imports_psycopg) if not name.startswith(PSYCOPG)} == set()


def test_one_module_registers_for_forks() -> None:
    assert modules_with(lambda node: isinstance(node, ast.Attribute) and node.attr == "register_at_fork") == {"_fork"}
