"""The files that a hosting service and editors read: valid, pinned, and about what the project has."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
YAML = [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".pre-commit-config.yaml"]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def jobs(workflow: Path) -> dict[str, Any]:
    return yaml.safe_load(workflow.read_text("utf-8"))["jobs"]


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow).values() for step in job["steps"]]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_is_yaml(path: Path) -> None:
    assert yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version_beside_it(path: Path) -> None:
    uses = [line for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert uses
    assert [line for line in uses if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d", line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_has_no_more_rights_than_it_names(path: Path) -> None:
    assert yaml.safe_load(path.read_text("utf-8"))["permissions"] == {}
    assert all("permissions" in job for job in jobs(path).values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_expression_is_part_of_a_command(path: Path) -> None:
    """A branch's or a tag's name in a shell command would be run by it: it goes by a variable."""
    assert [step["run"] for step in steps(path) if "${{" in step.get("run", "")] == []


def test_ci_runs_what_everybody_can_run() -> None:
    assert ".ci/run" in [step.get("run") for step in steps(ROOT / ".github" / "workflows" / "ci.yml")]


def test_ci_covers_every_python_that_is_claimed() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    prefix = "Programming Language :: Python :: 3."
    claimed = [name.removeprefix(prefix) for name in PROJECT["project"]["classifiers"] if name.startswith(prefix)]
    assert claimed
    assert [minor for minor in claimed if f'"3.{minor}"' not in text] == []


@pytest.mark.parametrize("name", ["ISSUE_TEMPLATE/bug.yml", "pull_request_template.md"])
def test_a_report_of_a_fault_asks_for_the_doctor(name: str) -> None:
    assert "llmspan doctor --json" in (ROOT / ".github" / name).read_text("utf-8")


def test_no_link_of_the_readme_is_relative_on_the_package_index() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    page = readme
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        page = re.sub(rule["pattern"], rule["replacement"], page)
    assert page != readme
    assert [link for link in re.findall(r"\]\(([^)\s]+)\)", page) if not link.startswith(("https://", "#"))] == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page)
    assert [link for link in pictures if "raw.githubusercontent.com" not in link] == []


def test_every_relative_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)\s#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_steps_of_a_release_name_files_that_exist() -> None:
    text = (ROOT / "RELEASING.md").read_text("utf-8")
    names = re.findall(r"`([\w./-]+\.(?:py|md|yml))`", text)
    names = [f".github/workflows/{name}" if name == "release.yml" else name for name in names]
    assert [name for name in names if not (ROOT / name).exists()] == []


DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    for number, path in enumerate(DECISIONS, 1):
        title = path.read_text("utf-8").splitlines()[0]
        assert path.name.startswith(f"{number:04}-")
        assert title.startswith(f"# {number}. ")
        assert f"{number}. [{title.partition('. ')[2]}]({path.name})" in index


def test_a_link_to_a_decision_says_its_number() -> None:
    wrong: list[str] = []
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for number, target in re.findall(
            r"\[(?:decision |ADR )?(\d+)\]\((?:[\w./-]*/)?(\d{4})-", path.read_text("utf-8")
        ):
            wrong += [f"{path.name}: {number} -> {target}"] if int(number) != int(target) else []
    assert wrong == []
