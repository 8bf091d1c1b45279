"""Measures the source against the limits in ``[tool.measure]`` of ``pyproject.toml``, and fails beyond one.

What is measured: local variables and parameters whose name is a bare participle or pronoun (``found``, ``rest``),
identifiers that the project has retired, the length of functions and files, logic in ``__init__.py``, and the share of
comments among the lines of code. ``uv run python scripts/measure.py`` prints the figures; ``--all`` each bare name too.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Limits:
    """The table ``[tool.measure]``."""

    #: words that say what happened to a thing, or point at it, and not what it is
    bare_words: frozenset[str]
    #: of 1,000 bindings
    bare_bindings: float
    #: identifiers that have got another name
    retired: frozenset[str]
    #: lines, at the 95th percentile
    function_lines: int
    #: lines
    file_lines: int
    #: of 100 lines of code: at least, at most
    comment_share: tuple[float, float]

    @classmethod
    def read(cls) -> Limits:
        """Read the table; raises KeyError if it lacks a limit."""
        table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["measure"]
        low, high = table["comment-share"]
        return cls(
            frozenset(table["bare-words"].split()), table["bare-bindings"], frozenset(table["retired"].split()),
            table["function-lines"], table["file-lines"], (low, high),
        )  # fmt: skip


@dataclass
class Figures:
    """What was measured; each name is ``file:line name``."""

    bindings: int = 0
    bare: list[str] = field(default_factory=list[str])
    retired: list[str] = field(default_factory=list[str])
    function_lines: list[int] = field(default_factory=list[int])
    long_files: list[str] = field(default_factory=list[str])
    logic: list[str] = field(default_factory=list[str])
    lines: int = 0
    comments: int = 0

    @property
    def bare_share(self) -> float:
        """Bare names among 1,000 bindings."""
        return 1000 * len(self.bare) / max(1, self.bindings)

    @property
    def comment_share(self) -> float:
        """Lines with a comment among 100 lines of code."""
        return 100 * self.comments / max(1, self.lines)

    @property
    def function_p95(self) -> int:
        """Lines; 95 of 100 functions are not longer."""
        return sorted(self.function_lines)[int(len(self.function_lines) * 0.95)] if self.function_lines else 0


def measure(paths: list[Path], limits: Limits) -> Figures:
    """Read the files; paths are shown relative to the project."""
    figures = Figures()
    for path in paths:
        text = path.read_text("utf-8")
        label, tree = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name, ast.parse(text)
        bindings = set(_bindings(tree, ""))
        figures.bindings += len(bindings)
        figures.bare += sorted(
            f"{label}:{line} {name}" for _, name, line in bindings if name.strip("_") in limits.bare_words
        )
        figures.retired += sorted(
            f"{label}:{line} {name}" for name, line in set(_identifiers(tree)) if name in limits.retired
        )
        figures.function_lines += [
            (node.end_lineno or node.lineno) - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, Function)
        ]
        count = text.count("\n")
        figures.lines += _lines_of_code(text, tree)
        figures.comments += _comments(text)
        if count > limits.file_lines:
            figures.long_files.append(f"{label} {count}")
        if path.name == "__init__.py":
            figures.logic += [f"{label}:{node.lineno} {type(node).__name__}" for node in tree.body if _is_logic(node)]
    return figures


def _bindings(node: ast.AST, scope: str) -> Iterator[tuple[str, str, int]]:
    """Each name once for the function or class that binds it, at its first line."""
    first: dict[str, int] = {}
    for name, line in _own_bindings(node):
        first.setdefault(name, line)
    yield from ((scope, name, line) for name, line in first.items())
    for inner in _inner_scopes(node):
        yield from _bindings(inner, f"{scope}.{inner.name}:{inner.lineno}")


def _own_bindings(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, Function):
        arguments = node.args
        optional = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *optional]:
            yield argument.arg, argument.lineno
    for child in _own_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id, child.lineno
        elif isinstance(child, ast.ExceptHandler | ast.MatchAs) and child.name:
            yield child.name, child.lineno


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def _inner_scopes(node: ast.AST) -> Iterator[Function | ast.ClassDef]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            yield child
        else:
            yield from _inner_scopes(child)


def _identifiers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def _lines_of_code(text: str, tree: ast.Module) -> int:
    """Lines that are not empty and not of a docstring."""
    documented: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(bool(line.strip()) and number not in documented for number, line in enumerate(text.splitlines(), 1))


def _comments(text: str) -> int:
    """Lines with a comment on them that is for the reader, not for a tool."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        words = token.string.lstrip("#: ")
        if token.type == tokenize.COMMENT and not words.startswith(("type:", "noqa", "fmt:", "pyright:", "pragma:")):
            lines.add(token.start[0])
    return len(lines)


def _is_logic(node: ast.stmt) -> bool:
    """Whether a statement of an ``__init__.py`` does more than document, import and export."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return False
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False
    if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":  # imports a public name on its first use
        return False
    if isinstance(node, ast.If):  # if TYPE_CHECKING
        return any(map(_is_logic, [*node.body, *node.orelse]))
    return not (isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _is_plain(node.value))


def _is_plain(value: ast.expr) -> bool:
    return not any(isinstance(node, ast.Call | ast.Lambda | ast.comprehension) for node in ast.walk(value))


def violations(figures: Figures, limits: Limits) -> list[str]:
    """What is beyond its limit, and where."""
    low, high = limits.comment_share
    messages = [f"retired name: {name}" for name in figures.retired]
    messages += [f"more than {limits.file_lines} lines: {name}" for name in figures.long_files]
    messages += [f"logic in an __init__.py: {name}" for name in figures.logic]
    if figures.bare_share > limits.bare_bindings:
        messages += [f"a name that does not say what it holds: {name}" for name in figures.bare]
    if figures.function_p95 > limits.function_lines:
        messages.append(
            f"functions: {figures.function_p95} lines at the 95th percentile, {limits.function_lines} allowed"
        )
    if not low <= figures.comment_share <= high:
        messages.append(f"comments: {figures.comment_share:.1f} of 100 lines of code, {low} to {high} wanted")
    return messages


def main(arguments: list[str]) -> int:
    """Print the figures; 1 if a limit is passed."""
    limits = Limits.read()
    figures = measure(sorted(SOURCE.rglob("*.py")), limits)
    messages = violations(figures, limits)
    if "--all" in arguments:
        print("\n".join(figures.bare))
    print(
        f"bare names: {figures.bare_share:.1f} of 1,000 bindings; functions: {figures.function_p95} lines at the 95th "
        f"percentile; comments: {figures.comment_share:.1f} of 100 lines of code"
    )
    print("\n".join(messages), end="\n" if messages else "")
    return int(bool(messages))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
