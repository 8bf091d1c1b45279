"""The form for a note or a score, on whatever page it stands: where it is sent, and why it cannot be sent at all.

Whether the store takes notes is asked of it once in a while, so that a page says it before somebody has written one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, cast

from starlette.requests import Request

from ..annotation_writing import annotation_obstacle
from ..errors import LlmspanError
from ..reader import Reader
from .rendering import page_of

__all__ = ["CALL_NOTES", "PAGES", "TRACE_NOTES", "NoteForm", "obstacle_of"]

#: the first segments of the addresses of the pages of notes
CALL_NOTES: Final = "annotations"
TRACE_NOTES: Final = "trace-annotations"
#: pages that a form may lead back to
PAGES: Final = frozenset({"call", "trace", "run", "conversation", CALL_NOTES, TRACE_NOTES})
#: seconds until the store is asked again; rights are granted seldom
_ASK_EVERY: Final = 30.0


@dataclass(frozen=True, slots=True)
class NoteForm:
    """Where a note is sent to, which page comes next, and the sentence that stands for the form where none can be."""

    kind: str
    subject: str
    page: str
    page_id: str
    obstacle: str | None

    @property
    def address(self) -> str:
        """The address of the page of all notes, which also takes a new one."""
        return page_of(self.kind, self.subject)


def obstacle_of(request: Request, reader: Reader) -> str | None:
    """Why the store takes no notes; None if it does, as far as is known."""
    state = request.app.state
    asked_at, obstacle = cast("tuple[float, str | None]", getattr(state, "note_obstacle", (-_ASK_EVERY, None)))
    if time.monotonic() - asked_at < _ASK_EVERY:
        return obstacle
    try:
        obstacle = annotation_obstacle(reader.backend)
    except LlmspanError:
        return None  # not known now; whoever sends one gets the reason
    state.note_obstacle = (time.monotonic(), obstacle)
    return obstacle
