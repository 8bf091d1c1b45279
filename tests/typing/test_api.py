"""Type checkers accept the documented uses of the public names, and reject misspelt names and wrong types."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import llmspan
from llmspan.settings import TABLE
from llmspan.settings_arguments import SettingsArguments

HERE = Path(__file__).parent
REJECTED = {
    number
    for number, line in enumerate((HERE / "rejected.py").read_text("utf-8").splitlines(), 1)
    if line.endswith("# error")
}
FILES = [str(HERE / "accepted.py"), str(HERE / "rejected.py")]


def pyright() -> set[tuple[str, int]]:
    command = [sys.executable, "-m", "pyright", "--outputjson", *FILES]
    made = json.loads(subprocess.run(command, check=False, capture_output=True, text=True).stdout)
    return {
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1)
        for found in made["generalDiagnostics"]
        if found["severity"] == "error"
    }


def mypy(folder: Path) -> set[tuple[str, int]]:
    # the package's own files are pyright's affair: here only its public names are used
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", f"--cache-dir={folder}", *FILES]
    lines = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    places = [line.split(": error:")[0].rsplit(":", 1) for line in lines if ": error:" in line]
    return {(Path(name).name, int(number)) for name, number in places}


@pytest.mark.parametrize("checker", ["pyright", "mypy"])
def test_a_checker_finds_the_wrong_uses_and_no_others(checker: str, tmp_path: Path) -> None:
    errors = pyright() if checker == "pyright" else mypy(tmp_path)
    assert errors == {("rejected.py", line) for line in REJECTED}


def test_every_setting_is_an_argument() -> None:
    assert sorted(SettingsArguments.__annotations__) == sorted(
        keyword for setting in TABLE for keyword in setting.keywords
    )


@pytest.mark.parametrize("name", llmspan.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(llmspan, name) is not None
