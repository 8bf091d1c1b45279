"""Rows become the lines that their records have, and rows that are no records give the errors of records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.backends import json_lines
from llmspan.backends.json_lines import json_line
from llmspan.backends.payload_pages import take_page
from llmspan.backends.rows import decode, encode
from llmspan.errors import RecordError
from llmspan.trace import KEYS, KINDS, PAYLOAD_KEYS, ProviderTrace
from records import full_trace, make_trace, patient, traces


def row_of(trace: ProviderTrace, **changes: Any) -> list[Any]:
    cells = encode(trace) | changes
    return [cells[key] for key in KEYS]


def plain_line(row: list[Any]) -> str:
    return decode(dict(zip(KEYS, row, strict=True))).to_json_line()


def outcome(function: Any, row: list[Any]) -> str:
    try:
        return function(row)
    except (RecordError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


@patient
@given(traces())
def test_a_row_has_the_line_of_its_record(trace):
    """For any record, and without the way over the record."""
    row = row_of(trace)
    assert json_line(row) == plain_line(row)
    if trace.request_json != "" and trace.response_json != "":
        assert json_lines._line(row)


@patient
@given(trace=traces(), key=st.sampled_from(KEYS), cell=st.sampled_from([
    None, 0, 1, 2, -1, True, 1.5, "", "x", "null", "[]", "{}", "[1]", '{"a":1}', '{"a":"x"}', '{"a":NaN}', "{", "ok",
    '"\\ud83d"', "[null]", '["a"]', "[" * 5000, b"bytes", ["a"], [1], "none", "full",
]))  # fmt: skip
def test_any_other_cell(trace, key, cell):
    """A cell that ``encode`` would not have made gives what the record gives, or the record's error."""
    if key in PAYLOAD_KEYS and not isinstance(cell, str | None):
        return
    row = row_of(trace, **{key: cell})
    assert outcome(json_line, row) == outcome(plain_line, row)


@pytest.mark.parametrize("character", ["\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u200b", "\U000e0041", "\ufeff"])
@pytest.mark.parametrize("beside", ["a", "\u00e9", "\u6f22"])
def test_no_control_character_in_any_cell(character, beside):
    """Whatever a terminal would obey is an escape, in payloads and in all other texts, beside any letters."""
    text = f"{beside}{character}"
    for key in KEYS:
        if KINDS[key] == "text" and key not in ("status", "content", "usage_source"):
            cell = f'"{text}"' if key in PAYLOAD_KEYS else text
            line = json_line(row_of(full_trace(), **{key: cell}))
            assert character not in line
            assert ProviderTrace.from_json(line).to_json_line() == line


def test_a_page_reads_one_row_more_than_it_holds():
    """Rows are taken one by one: what is beyond a page is never in memory."""
    taken = 0

    def rows() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield row_of(make_trace(request_json='"' + "x" * 2**20 + '"'))

    page, cursor = take_page(rows(), 1000)
    assert (len(page), taken) == (16, 17)
    assert cursor is not None
