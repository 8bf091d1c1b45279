"""Finish reasons in the spelling of the GenAI conventions: one table for spans, events and messages.

The conventions' values are those of their output message schema: ``stop``, ``length``, ``content_filter``,
``tool_call``, ``compaction`` and ``error``. What has no counterpart there (Anthropic's ``pause_turn``) and what is
unknown stays as the provider wrote it. Records keep the provider's values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .reply import JsonObject, obj, objects, text

__all__ = ["normalized", "response_reason", "response_reasons"]

_REASONS: Final[dict[str, str | None]] = {
    # OpenAI chat and legacy completions; Mistral, Together and text-generation-inference behind that API
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "model_length": "length",
    "eos": "stop",
    "eos_token": "stop",
    # Anthropic messages and legacy completions
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_call",
    "refusal": "content_filter",
    # a Responses object: its status, and the reason why it is incomplete
    "completed": "stop",
    "failed": "error",
    "cancelled": "error",
    "queued": None,
    "in_progress": None,
    "max_output_tokens": "length",
    # Google's candidates (types.FinishReason), and the status of its interactions
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "LANGUAGE": "error",
    "IMAGE_OTHER": "error",
    "NO_IMAGE": "error",
    "MALFORMED_FUNCTION_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    "requires_action": "tool_call",
    "budget_exceeded": "length",
}
#: items by which the model asks the caller to run a tool; the provider runs those of its own before it completes
_TOOL_CALLS: Final = frozenset(
    {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"}
)


def normalized(reasons: Iterable[str | None]) -> tuple[str, ...]:
    """The reasons of a call's choices; one that was expected and did not come is ``error``, by the conventions."""
    spelled = ("error" if not reason else _REASONS.get(reason, reason) for reason in reasons)
    return tuple(reason for reason in spelled if reason is not None)


def response_reason(response: JsonObject) -> str | None:
    """Why a Responses object ended; None while it has not, or where it does not say."""
    status = text(response.get("status"))
    if status == "completed" and _asks_for_a_tool(response):
        return "tool_call"
    if status == "incomplete":
        status = text(obj(response.get("incomplete_details")).get("reason")) or status
    return None if status is None else _REASONS.get(status, status)


def response_reasons(response: JsonObject) -> tuple[str, ...]:
    """The same as a tuple of at most one."""
    reason = response_reason(response)
    return () if reason is None else (reason,)


def _asks_for_a_tool(response: JsonObject) -> bool:
    """Whether the output has a call that the caller is to answer: it is of his tools, and has no output beside it."""
    items = objects(response.get("output"))
    answered = {text(item.get("call_id")) for item in items if str(item.get("type")).endswith("_call_output")}
    return any(_is_for_caller(item) and text(item.get("call_id")) not in answered for item in items)


def _is_for_caller(item: JsonObject) -> bool:
    kind = text(item.get("type"))
    return kind in _TOOL_CALLS or (kind, item.get("execution")) == ("tool_search_call", "client")
