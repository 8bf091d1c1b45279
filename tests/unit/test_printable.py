"""Text of others becomes safe to print: nothing in it steers a terminal, forges a line or is read in another order."""

from __future__ import annotations

import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan._guard import report_internal_error, reset_error_counts
from llmspan._log import logger
from llmspan.printable import json_printable, printable, printable_lines
from records import full_trace

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b31m \x7f \x00", r"\x9b31m \x7f \x00"),
        ("a\u2028b\u2029c\u0085d", r"a\u2028b\u2029c\x85d"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\U000e0041\u200b\ufeff", r"\U000e0041\u200b\ufeff"),
        ("\ud800", r"\ud800"),
        ("Grüße, 你好, שלום, \U0001f468\u200d\U0001f469", "Grüße, 你好, שלום, \U0001f468\u200d\U0001f469"),
    ],
)
def test_what_a_terminal_would_obey_is_an_escape(text: str, shown: str) -> None:
    """Controls, line breaks and invisible characters are shown; letters and emoji of any script stay."""
    assert printable(text) == shown


@given(st.text(st.characters() | st.sampled_from("\x1b\n\r\x9b\u2028" + BIDI)))
def test_nothing_gets_through(text: str) -> None:
    """Whatever the text, the result is one line without control characters, and can be encoded."""
    shown = printable(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert not set(shown) & set(BIDI)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert printable(shown) == shown


@given(st.text(st.characters() | st.sampled_from("\x1b\n\r\t\u2028" + BIDI)))
def test_a_message_keeps_its_lines(text: str) -> None:
    """Line breaks and tabs of a message stay, and nothing else that controls."""
    shown = printable_lines(text)
    assert shown.count("\n") == text.count("\n")
    assert printable(shown.replace("\n", "").replace("\t", "")) == shown.replace("\n", "").replace("\t", "")


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_keeps_its_meaning(value: object) -> None:
    """JSON that is made printable is one line, has no control characters, and means the same."""
    shown = json_printable(json.dumps(value, ensure_ascii=False, indent=1))
    assert printable(shown) == shown
    assert json.loads(shown) == value


def test_a_record_in_json_is_printable() -> None:
    """The JSON line of a record has no control character; payloads mean the same."""
    text = "\U000e0041 \x9b \u202e \u061c \u2028 \xad"
    line = full_trace(request_json=json.dumps(text, ensure_ascii=False), user_id=text).to_json_line()
    assert printable(line) == line
    assert json.loads(line)["request_json"] == json.loads(line)["user_id"] == text


@pytest.mark.parametrize("planted", ["x\n2026-01-01 ERROR forged", "x\r\x1b[2K forged", "x\u2028\u202e\x9b forged"])
def test_a_log_line_cannot_be_forged(planted: str, caplog: pytest.LogCaptureFixture) -> None:
    """What our log quotes stays on its line, as text, as an exception, and in a traceback."""
    logger.warning("llmspan: %s and %s, %d times", planted, ValueError(planted), 3)
    reset_error_counts()
    error = RuntimeError(planted)
    error.__cause__ = ValueError(planted)
    report_internal_error("a.place", error)
    report_internal_error("another.place", ExceptionGroup(planted, [RuntimeError(planted)]))
    reset_error_counts()
    shown = "\n".join(logging.Formatter("%(message)s").format(record) for record in caplog.records)
    assert shown.count(printable(planted)) == 4
    assert not any(line.lstrip().startswith(("forged", "2026")) for line in shown.splitlines())  # groups have a "|"
    assert printable_lines(shown) == shown
    assert caplog.records[0].args == (printable(planted), printable(planted), 3)
