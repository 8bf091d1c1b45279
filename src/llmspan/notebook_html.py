"""Tables of HTML for notebooks. All text is foreign and is escaped; none of it can become markup or a script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from .printable import printable, printable_lines

__all__ = ["facts_table", "list_table"]

#: characters of a payload that are shown
_LONGEST: Final = 20_000


def facts_table(facts: Mapping[str, Any], payloads: Mapping[str, str | None]) -> str:
    """A row for each fact that there is; under it the payloads, closed until somebody opens them."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{_text(name)}</th><td style='text-align:left'>{_text(value)}</td></tr>"
        for name, value in facts.items()
        if value not in (None, "", (), [], {})
    )
    parts = [_payload(name, value) for name, value in payloads.items() if value is not None]
    return f"<table>{rows}</table>{''.join(parts)}"


def list_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a head; a value that is None is ``-``, never 0."""
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    cells = (["<td>" + _text("-" if value is None else value) + "</td>" for value in row] for row in rows)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _payload(name: str, value: str) -> str:
    try:
        text = json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = value
    visible = text[:_LONGEST] + (f"\n... {len(text) - _LONGEST:,} more characters" if len(text) > _LONGEST else "")
    return f"<details><summary>{_text(name)}</summary><pre>{escape(printable_lines(visible))}</pre></details>"


def _text(value: Any) -> str:
    return escape(printable(f"{value:,}" if type(value) is int else value))
