"""Finish reasons in the conventions' spelling: one table for spans, events and messages."""

from __future__ import annotations

from typing import Any

import pytest

from llmspan.wire.finish_reasons import normalized, response_reason


@pytest.mark.parametrize(("raw", "expected"), [
    # OpenAI chat
    ("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("tool_calls", "tool_call"),
    ("function_call", "tool_call"), ("model_length", "length"), ("eos", "stop"), ("error", "error"),
    # Anthropic
    ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("tool_use", "tool_call"),
    ("refusal", "content_filter"), ("model_context_window_exceeded", "length"), ("compaction", "compaction"),
    # Google
    ("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
    ("MODEL_ARMOR", "content_filter"), ("SPII", "content_filter"), ("IMAGE_SAFETY", "content_filter"),
    ("MALFORMED_FUNCTION_CALL", "error"), ("LANGUAGE", "error"), ("requires_action", "tool_call"),
    ("CONTINUATION", "CONTINUATION"), ("OTHER", "OTHER"), ("FINISH_REASON_UNSPECIFIED", "FINISH_REASON_UNSPECIFIED"),
    # no counterpart, and unknown: unchanged
    ("pause_turn", "pause_turn"), ("insufficient_system_resource", "insufficient_system_resource"), ("null", "null"),
    # a choice without a reason
    (None, "error"), ("", "error"),
])  # fmt: skip
def test_reasons(raw, expected):
    """Each provider's reason is one of the conventions' words where they have one."""
    assert normalized((raw,)) == (expected,)


def test_positions():
    """Choices keep their positions."""
    assert normalized(("stop", None, "tool_calls")) == ("stop", "error", "tool_call")
    assert normalized(()) == ()


MESSAGE: dict[str, Any] = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}


def tool(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "call_id": "c1", **fields}


@pytest.mark.parametrize(("response", "expected"), [
    ({"status": "completed", "output": [MESSAGE]}, "stop"),
    ({"status": "completed"}, "stop"),
    ({"status": "completed", "output": [MESSAGE, tool("function_call")]}, "tool_call"),
    ({"status": "completed", "output": [tool("custom_tool_call")]}, "tool_call"),
    ({"status": "completed", "output": [tool("computer_call")]}, "tool_call"),
    ({"status": "completed", "output": [tool("local_shell_call")]}, "tool_call"),
    ({"status": "completed", "output": [tool("tool_search_call", execution="client")]}, "tool_call"),
    # tools that the provider ran
    ({"status": "completed", "output": [tool("web_search_call"), MESSAGE]}, "stop"),
    ({"status": "completed", "output": [tool("mcp_call"), tool("code_interpreter_call"), MESSAGE]}, "stop"),
    ({"status": "completed", "output": [tool("shell_call"), tool("shell_call_output"), MESSAGE]}, "stop"),
    ({"status": "completed", "output": [tool("tool_search_call", execution="server"), MESSAGE]}, "stop"),
    ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
    ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
      "output": [tool("function_call")]}, "length"),
    ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
    ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, "steered"),
    ({"status": "incomplete", "incomplete_details": None}, "incomplete"),
    ({"status": "failed"}, "error"), ({"status": "cancelled"}, "error"),
    ({"status": "queued"}, None), ({"status": "in_progress"}, None), ({}, None), ({"status": 7}, None),
])  # fmt: skip
def test_response_reason(response, expected):
    """A Responses object says by status, details and output why it ended; while it runs there is no reason."""
    assert response_reason(response) == expected
