"""Runs the guides whose frameworks the test environment does not have, each with its own in an environment of its own.

``uv run python scripts/guides.py [NAME ...]``; the packages of a guide are in its first line, ``<!-- needs: ... -->``.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ROOT / "docs" / "guides"
TEST = "tests/integration/test_guides.py"


def packages(page: Path) -> list[str]:
    """What a guide needs beside the test environment."""
    listed = re.search(r"^<!-- needs: (.*) -->$", page.read_text("utf-8"), re.MULTILINE)
    return listed[1].split("; ") if listed else []


def run(page: Path) -> bool:
    """Run one guide; whether its programs print what it shows."""
    extra = [word for package in packages(page) for word in ("--with", package)]
    test = [
        "pytest",
        "-q",
        "-n0",
        "-p",
        "no:randomly",
        f"{TEST}::test_a_page_shows_what_its_programs_print[{page.stem}]",
    ]
    return subprocess.run(["uv", "run", "-q", *extra, *test], cwd=ROOT, check=False).returncode == 0


def main() -> int:
    """The exit code: 1 if a guide fails."""
    chosen = sys.argv[1:]
    pages = [page for page in sorted(GUIDES.glob("*.md")) if page.stem in chosen or (not chosen and packages(page))]
    failed = [page.stem for page in pages if not run(page)]
    print(f"{len(pages)} guides, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
