"""The check of names and lengths finds what it is for, and lets pass what it is not for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from measure import Figures, Limits, measure, violations  # noqa: E402 - no package: it is run as a script

LIMITS = Limits(frozenset({"found", "rest"}), 5, frozenset({"Breaker", "place"}), 22, 450, (0, 100))


def figures_of(text: str, folder: Path, name: str = "module.py") -> Figures:
    path = folder / name
    path.write_text(text)
    return measure([path], LIMITS)


@pytest.mark.parametrize(
    "text",
    [
        "found = 1",
        "def f(found): ...",
        "def f(*, found): ...",
        "def f(*rest): ...",
        "async def f():\n    found = 1",
        "def f():\n    for found in (): ...",
        "with open('x') as found: ...",
        "first, *rest = (1, 2)",
        "if (found := 1): ...",
        "class A:\n    _found = 1",
        "try: ...\nexcept OSError as found: ...",
        "[found for found in ()]",
    ],
)
def test_a_bare_name_counts(text: str, tmp_path: Path) -> None:
    assert len(figures_of(text, tmp_path).bare) == 1


@pytest.mark.parametrize("text", ["def found(): ...", "founder = 1", "found_id = 1", "print(found)", "x.found = 1"])
def test_other_names_do_not(text: str, tmp_path: Path) -> None:
    assert figures_of(text, tmp_path).bare == []


def test_a_name_counts_once_for_each_function(tmp_path: Path) -> None:
    text = "def f():\n    found = 1\n    found = 2\ndef g():\n    found = 3\n"
    figures = figures_of(text, tmp_path)
    assert (len(figures.bare), figures.bindings) == (2, 2)


@pytest.mark.parametrize("text", ["class Breaker: ...", "def place(): ...", "place = 1", "def f(place): ..."])
def test_a_retired_name_is_a_violation(text: str, tmp_path: Path) -> None:
    assert any(line.startswith("retired name: ") for line in violations(figures_of(text, tmp_path), LIMITS))


@pytest.mark.parametrize(
    ("text", "is_logic"),
    [
        ('"""Doc."""\nfrom .a import b\n__all__ = ["b"]\n', False),
        ("def __getattr__(name): ...", False),
        ("X = 1", False),
        ("X = f()", True),
        ("def f(): ...", True),
        ("class A: ...", True),
        ("if X:\n    def f(): ...", True),
    ],
)
def test_logic_in_an_init(text: str, is_logic: bool, tmp_path: Path) -> None:
    assert bool(figures_of(text, tmp_path, "__init__.py").logic) is is_logic
    assert figures_of(text, tmp_path, "other.py").logic == []


def test_comments_are_a_share_of_the_code(tmp_path: Path) -> None:
    text = '"""Doc.\n\nMore.\n"""\n\nx = 1  # why\ny = 2  # noqa: E501\nz = "# text"\nw = 3\n'
    assert figures_of(text, tmp_path).comment_share == 25


def test_a_long_file_and_long_functions(tmp_path: Path) -> None:
    text = "def f():\n" + "    x = 1\n" * 460
    messages = violations(figures_of(text, tmp_path), LIMITS)
    assert [line.partition(":")[0] for line in messages] == ["more than 450 lines", "functions"]


def test_the_source_is_within_the_limits() -> None:
    limits = Limits.read()
    assert violations(measure(sorted((ROOT / "src").rglob("*.py")), limits), limits) == []
