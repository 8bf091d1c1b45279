"""What CI calls exists, and `just` reads each call as it is meant.

A recipe with options of its own takes every name that follows it on the line as one of them: `just peers sdk-suites`
runs one recipe, with an option that it does not know.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = [
    line.removeprefix("uv run just ").split()
    for line in map(str.strip, (ROOT / ".ci" / "run").read_text("utf-8").splitlines())
    if line.startswith("uv run just ")
]


@pytest.fixture(scope="module")
def recipes() -> dict[str, list[object]]:
    """The options of each recipe."""
    just = shutil.which("just")
    assert just is not None, "just is in the group dev of pyproject.toml"
    dump = [just, "--justfile", str(ROOT / "justfile"), "--dump", "--dump-format", "json"]
    made = json.loads(subprocess.run(dump, check=True, capture_output=True, text=True).stdout)
    return {name: recipe["parameters"] for name, recipe in made["recipes"].items()}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_name_of_a_call_is_a_recipe(call: list[str], recipes: dict[str, list[object]]) -> None:
    assert [name for name in call if name not in recipes] == []


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_nothing_follows_a_recipe_with_options(call: list[str], recipes: dict[str, list[object]]) -> None:
    assert [name for name in call[:-1] if recipes[name]] == []


def test_there_are_calls() -> None:
    assert len(CALLS) >= 4
