"""Why the calls of Google's APIs ended, in the conventions' spelling. Pure: JSON values in, words out.

The API says ``STOP`` of a candidate that asks the caller for a function as of any other, so that a part of the
candidate decides. A prompt that was blocked has no candidates: its reason is in the feedback on the prompt.
"""

from __future__ import annotations

from typing import Final

from ..finish_reasons import normalized
from ..reply import JsonObject, meaningful_text, obj, objects

__all__ = ["candidate_reasons", "content_reasons", "interaction_reasons", "is_blocked"]

_STOP: Final = "STOP"
_BLOCKED: Final = "content_filter"


def candidate_reasons(reasons: list[str | None], asks: list[bool], *, is_blocked: bool) -> tuple[str, ...]:
    """The reasons of candidates, of each of which ``asks`` says whether it has a function call.

    ``is_blocked``: the prompt was blocked, perhaps after candidates had begun.
    """
    if is_blocked and not reasons:
        return (_BLOCKED,)
    return tuple(
        "tool_call"
        if reason == _STOP and has_call
        else next(iter(normalized((reason or (_BLOCKED if is_blocked else None),))), "error")
        for reason, has_call in zip(reasons, asks, strict=True)
    )


def is_blocked(response: JsonObject) -> bool:
    """Whether the prompt was blocked, by what is said of it."""
    return meaningful_text(obj(response.get("promptFeedback")).get("blockReason")) is not None


def content_reasons(response: JsonObject) -> tuple[str, ...]:
    """The finish reasons of a ``GenerateContentResponse``, one for each candidate."""
    candidates = objects(response.get("candidates"))
    parts = (objects(obj(candidate.get("content")).get("parts")) for candidate in candidates)
    reasons = [meaningful_text(candidate.get("finishReason")) for candidate in candidates]
    asks = [any(isinstance(part.get("functionCall"), dict) for part in of_one) for of_one in parts]
    return candidate_reasons(reasons, asks, is_blocked=is_blocked(response))


def interaction_reasons(interaction: JsonObject) -> tuple[str, ...]:
    """The finish reason of an ``Interaction``: its status, in the conventions' spelling; nothing while it runs."""
    status = meaningful_text(interaction.get("status"))
    return () if status is None else normalized((status,))
