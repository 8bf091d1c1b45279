"""What every bench takes and gives alike: ``--quick``, and figures as a table, as JSON, or as both for ``run.py``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all benches have."""
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--quick", action="store_true", help="tiny counts: whether it runs, not how fast")
    made.add_argument("--json", action="store_true", help="figures as JSON instead of a table")
    made.add_argument("--report", type=Path, metavar="FILE", help="write figures and table to a file, too")
    return made


def give(options: argparse.Namespace, rows: Any, table: str) -> None:
    """Print what was asked for. ``rows`` are ready for JSON."""
    print(json.dumps(rows, indent=1) if options.json else table)
    if options.report is not None:
        options.report.write_text(json.dumps({"rows": rows, "table": table}))


def write_between(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the markers called ``name`` in a Markdown page.

    Raises:
        ValueError: the page does not have them.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, has_begin, rest = page.read_text().partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise ValueError(f"{page.name} has no place for {name!r}: put {begin} and {end} where it belongs")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
