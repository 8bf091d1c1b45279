"""Google's ``generateContent``, streamed or not: the Gemini API and Vertex AI.

Source: google-genai ``types.GenerateContentResponse``, which a stream's events are as well. Each event has the usage so
far, and the last object counts as a whole: its counts may be lower than, or absent from, those of an earlier one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ...usage import Usage
from ..reply import JsonObject, Reply, ReplyError, ResponseParser, has_error, obj, objects, read_error, text
from .gemini_candidates import Candidates, carries_output
from .gemini_reasons import candidate_reasons, is_blocked


class GenerateContentParser(ResponseParser):
    """Reads generated content."""

    array_is_stream: ClassVar[bool] = True
    #: events repeat each other but for texts and counts, of which the last ones are facts
    reads_last_of_run: ClassVar[bool] = True

    def __init__(self) -> None:
        self._body: JsonObject | None = None
        self._members: JsonObject = {}
        self._candidates = Candidates()
        self._error: ReplyError | None = None

    def event(self, data: JsonObject, name: str | None) -> None:  # noqa: ARG002
        """Take one event of a stream: a response of its own."""
        if has_error(data):
            self._error = read_error(data)
            return
        for key, value in data.items():
            if key != "candidates" and (value or key not in self._members):
                self._members[key] = value
        self._candidates.take(objects(data.get("candidates")))

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        self._body = data
        self.event(data, None)

    def carries_output(self, data: JsonObject) -> bool:
        """A part with text, a thought, a call, code or data."""
        contents = (obj(candidate.get("content")) for candidate in objects(data.get("candidates")))
        return any(carries_output(part) for content in contents for part in objects(content.get("parts")))

    def reply(self) -> Reply:
        """What is known by now."""
        candidates = self._candidates.in_order()
        reasons = [candidate.reason for candidate in candidates]
        blocked = is_blocked(self._members)
        is_over = blocked or (bool(candidates) and all(candidate.is_finished for candidate in candidates))
        usage = obj(self._members.get("usageMetadata"))
        return Reply(
            response_id=text(self._members.get("responseId")),
            response_model=text(self._members.get("modelVersion")),
            finish_reasons=tuple(reasons),
            normalized_reasons=candidate_reasons(
                reasons, [candidate.has_call for candidate in candidates], is_blocked=blocked
            )
            if candidates or blocked
            else None,
            # a running total: what an error cuts off may have been more
            usage=Usage.from_raw(usage, final=self._error is None or is_over),
            service_tier=text(usage.get("serviceTier")),
            error=self._error,
            terminal=is_over,
        )

    def response(self) -> Any:
        """A ``GenerateContentResponse``."""
        if self._body is not None:
            return self._body
        candidates = [candidate.finished() for candidate in self._candidates.in_order()]
        if not candidates and not self._members:
            return None
        return {"candidates": candidates, **self._members} if candidates else dict(self._members)
