"""The pages of the site name what there is: findings of the doctor, commands, public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import llmspan

ROOT = Path(__file__).parents[2]
CLI = ROOT / "src" / "llmspan" / "cli"


def findings() -> list[ast.Call]:
    """Every place in the code that makes a note or a problem of the doctor's."""
    trees = [ast.parse((CLI / name).read_text("utf-8")) for name in ("doctor_checks.py", "trial.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Finding"]
    return [call for call in made if not (isinstance(call.args[1], ast.Constant) and call.args[1].value == "ok")]


def test_each_finding_of_the_doctor_has_a_section_in_troubleshooting() -> None:
    """The anchor that a finding links to is the heading of a section, and each section is about a finding."""
    assert [ast.unparse(call) for call in findings() if len(call.args) < 4] == []
    anchors = {call.args[3].value for call in findings() if isinstance(call.args[3], ast.Constant)}
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(anchors) == sorted(heading.lower().replace(" ", "-") for heading in headings)


def test_pages_made_from_the_commands_are_up_to_date() -> None:
    """docs/cli.md, the manual page and the completions are what `just docs` writes."""
    done = subprocess.run(
        [sys.executable, "docs/command_line.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_on_the_page_of_names() -> None:
    """docs/api.md has each name that `llmspan` exports, and no other."""
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    names = re.findall(r"^::: llmspan\.[\w.]*?(\w+)$", page, re.MULTILINE)
    assert sorted([*names, "__version__"]) == sorted(llmspan.__all__)


def test_every_metric_of_calls_is_documented() -> None:
    """docs/metrics.md has each name of the module that measures calls; `.x` there repeats what is before it."""
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    names = set(re.findall(r"`(gen_ai\.client[\w.]+)`", page))
    for ending in re.findall(r"`(\.[\w.]+)`", page):
        names |= {name.rsplit(".", ending.count("."))[0] + ending for name in names}
    tree = ast.parse((ROOT / "src" / "llmspan" / "metrics.py").read_text("utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    used = {text for text in texts if re.fullmatch(r"gen_ai\.client[\w.]+\w", text)}
    assert len(used) > 8
    assert used - names == set()


def test_the_comparison_is_made_from_what_was_measured() -> None:
    """The tables of docs/comparison.md are those of docs/performance.md and of the peers that were tried out."""
    done = subprocess.run(
        [sys.executable, "docs/comparison.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_page_has_its_place() -> None:
    """mkdocs.yml names each page; those of decisions are in a list of their own."""
    nav = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in nav and not re.match(r"decisions/\d", page)] == []
