"""The traceback of a wrong setting: the caller's line and the message, not how the setting was read."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

import llmspan
from llmspan.errors import SettingsError


@pytest.mark.parametrize(
    "call",
    [
        lambda: llmspan.instrument(capture_payloads="nonsense"),
        lambda: llmspan.instrument(content="nonsense"),
        lambda: llmspan.instrument(nonsense=1),
        lambda: llmspan.instrument(backends="nonsense"),
        lambda: llmspan.instrument(redact="nowhere:function"),
        lambda: llmspan.Reader.from_env(backends="nonsense"),
        lambda: llmspan.Reader.from_env(sqlite_path="/proc/nowhere/x.db").open(),
        lambda: llmspan.AsyncReader.from_env(write_timeout="soon"),
    ],
)
def test_the_callers_line_is_the_last_but_one(call: Callable[[], Any]) -> None:
    """One frame of ours follows the caller's, and no other exception is shown."""
    with pytest.raises(SettingsError) as caught:
        call()
    error = caught.value
    names = [frame.filename.rpartition("/")[2] for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-2:] == ["test_settings_errors.py", "errors.py"]
    assert "exception" not in "".join(traceback.format_exception(error))
    assert str(error)
