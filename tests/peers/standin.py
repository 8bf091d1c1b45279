"""The provider that the peers' calls go to: llmspan's demo server, which keeps what it answered."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmspan.demo.parts import Answer
from llmspan.demo.server import DemoServer, _Handler

#: counting tokens spends none, and has no usage
COUNTING = "/count_tokens"


@dataclass(frozen=True)
class Answered:
    """One HTTP call as the provider sees it. ``input_tokens`` counts cached tokens, as the conventions do."""

    path: str
    response_id: str | None
    input_tokens: int | None
    output_tokens: int | None


class StandIn(DemoServer):
    """The demo server with a list of the calls that it has answered."""

    def __init__(self) -> None:
        super().__init__()
        self._answered: list[Answered] = []
        self._lock = threading.Lock()
        stand_in = self

        class CountingHandler(_Handler):
            def _answer(self, answer: Answer) -> None:
                if self.command == "POST" and answer.status == 200 and not self.path.endswith(COUNTING):
                    stand_in.note(read_answer(self.path, answer))
                super()._answer(answer)

        self._server.RequestHandlerClass = CountingHandler

    def note(self, answered: Answered) -> None:
        """Keep a call. It is kept before the answer is sent, so that whoever has the answer finds it here."""
        with self._lock:
            self._answered.append(answered)

    def take(self) -> list[Answered]:
        """The calls since the last time that this was called."""
        with self._lock:
            answered, self._answered = self._answered, []
        return answered


def read_answer(path: str, answer: Answer) -> Answered:
    """What an answer says of itself: its id and the last usage in it."""
    response_id, usage = None, {}
    for part in _parts(answer):
        response_id = response_id or part.get("responseId")
        usage = part.get("usageMetadata") or usage  # the last one counts as a whole
        for holder in (part, part.get("response"), part.get("message")):
            if isinstance(holder, Mapping):
                response_id = response_id or holder.get("id")
                usage = {**usage, **(holder.get("usage") or {})}
    return Answered(path.partition("?")[0], response_id, *_totals(usage))


def _parts(answer: Answer) -> list[Mapping[str, Any]]:
    if answer.events:
        return [event.data for event in answer.events if isinstance(event.data, Mapping)]
    return [answer.body or {}]


def _totals(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    if not usage:
        return None, None
    if "promptTokenCount" in usage:
        outputs = (usage.get(f"{name}TokenCount") for name in ("candidates", "thoughts"))
        return usage["promptTokenCount"], sum(filter(None, outputs))
    if "prompt_tokens" in usage:
        return usage["prompt_tokens"], usage.get("completion_tokens")
    cached = sum(usage.get(f"cache_{how}_input_tokens") or 0 for how in ("creation", "read"))
    return usage["input_tokens"] + cached, usage["output_tokens"]
