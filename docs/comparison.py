"""Writes the tables of docs/comparison.md from what has been measured; ``--check`` only compares.

Sources: the table of whole processes in docs/performance.md (``bench/whole.py``), and tests/peers/results.json
(``just peers``), whose versions are those that were tried out.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "comparison.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
#: the columns of the table that are shown, with our words for them
COLUMNS = {
    "messages, 5 ms apart": "one message",
    "messages, 500 chunks": "a message of 500 chunks",
    "chat, 5 ms apart": "one chat completion",
    "chat, 500 chunks": "a chat completion of 500 chunks",
}


def whole_processes() -> tuple[dict[str, dict[str, int]], str]:
    """CPU time of the process in µs, by row and column, and the sentence on how it was measured."""
    text = (DOCS / "performance.md").read_text("utf-8")
    part = text.partition("<!-- whole: begin -->")[2].partition("<!-- whole: end -->")[0]
    head, _, *rows = [line for line in part.splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in head.split("|")[2:-1]]
    table: dict[str, dict[str, int]] = {}
    for row in rows:
        label, *cells = [cell.strip() for cell in row.split("|")[1:-1]]
        table[label] = {
            name: int(cell.split(", ")[-1].replace(",", "")) for name, cell in zip(names, cells, strict=True) if cell
        }
    return table, " ".join(part[part.index("Measured on") :].split())


def cpu_table() -> list[str]:
    """What each adds to the CPU time of the bare SDK."""
    table, how = whole_processes()
    bare = table.pop("bare SDK")
    for row in ("a span and a row by hand", "the call read by hand"):  # are no products
        table.pop(row, None)
    lines = ["| added CPU time of the process, µs | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("| --- |" + " ---: |" * len(COLUMNS))
    for label, cells in table.items():
        added = [f"{cells[name] - bare[name]:,}" if name in cells else "" for name in COLUMNS]
        lines.append(f"| {label} | " + " | ".join(added) + " |")
    return [*lines, "", how]


def versions() -> list[str]:
    """The packages that were tried out beside llmspan."""
    requirements = json.loads((DOCS.parent / "tests" / "peers" / "results.json").read_text("utf-8"))["requirements"]
    packages = sorted({package for listed in requirements.values() for package in listed})
    peers = [package for package in packages if not re.match(r"(openai|anthropic|opentelemetry-distro)==", package)]
    return ["Tried out together with llmspan: " + ", ".join(f"`{package}`" for package in peers) + "."]


def page() -> str:
    """The page with its tables as they are now."""
    text = PAGE.read_text("utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    return "\n".join([before + BEGIN, "", *cpu_table(), "", *versions(), "", END + after])


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text("utf-8") == page() else "docs/comparison.md is out of date: run `just docs`")
    PAGE.write_text(page(), "utf-8")
