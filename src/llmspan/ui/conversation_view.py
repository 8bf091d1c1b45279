"""A call's turns as the page shows them: each call of a tool with its result, long texts folded. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ..conversation import Turn, request_turns, response_turns
from ..trace import ProviderTrace

__all__ = ["FOLDED_LINES", "SHOWN_MEDIA", "Bubble", "Conversation", "conversation_of", "turns_of"]

#: what a browser shows without running anything in it; an image of SVG may have scripts and links
SHOWN_MEDIA: Final = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "audio/wav",
        "audio/mpeg",
        "audio/mp3",
        "audio/ogg",
        "audio/flac",
    }
)

#: a text of more lines or characters is folded, and one of more characters is cut until "show all" is asked for
FOLDED_LINES: Final = 40
_FOLDED_CHARACTERS: Final = 4_000
CUT_CHARACTERS: Final = 40_000
#: all texts of a request, or of a response, are cut to so many; but each has some of its own
PAGE_CHARACTERS: Final = 100_000
LEAST_CHARACTERS: Final = 200


@dataclass(slots=True)
class Bubble:
    """A turn with what belongs to it."""

    turn: Turn
    #: what the page shows of the text
    text: str
    #: how many characters of it are left out
    left_out: int
    is_folded: bool
    results: list[Bubble] = field(default_factory=list["Bubble"])
    #: which of the turns it is, if a browser can show or play what it is about
    media_at: int | None = None

    @property
    def element(self) -> str:
        """The element that shows it: ``img`` or ``audio``."""
        return "audio" if self.turn.media is not None and self.turn.media.type.startswith("audio/") else "img"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was asked, what came back, and the tools that were offered."""

    request: Sequence[Bubble]
    response: Sequence[Bubble]
    tools: Sequence[Turn]


def turns_of(record: ProviderTrace) -> dict[str, Sequence[Turn]]:
    """The turns of the request, the tools that it offers, and the turns of the response."""
    turns = request_turns(record.request_json, full_tools=True)
    return {
        "request": [turn for turn in turns if turn.kind != "tool"],
        "tools": [turn for turn in turns if turn.kind == "tool"],
        "response": response_turns(record.response_json),
    }


def conversation_of(record: ProviderTrace, *, is_complete: bool = False) -> Conversation:
    """The conversation of a call; ``is_complete`` cuts nothing."""
    turns = turns_of(record)
    request, response = (_bubbles(turns[side], is_complete) for side in ("request", "response"))
    return Conversation(request, response, turns["tools"])


def _bubbles(turns: Sequence[Turn], is_complete: bool) -> list[Bubble]:
    """The turns, with each result under the call of the tool that it answers."""
    calls: dict[str, Bubble] = {}
    bubbles: list[Bubble] = []
    used = 0
    for at, turn in enumerate(turns):
        bubble = _bubble(turn, None if is_complete else PAGE_CHARACTERS - used)
        if turn.media is not None and turn.media.content is not None and turn.media.type in SHOWN_MEDIA:
            bubble.media_at = at
        used += len(bubble.text)
        if turn.kind == "call" and turn.call_id:
            calls[turn.call_id] = bubble
        # a request repeats the calls of earlier turns, so the result finds its call among them; one whose call is not
        # there (a shortened history) stands by itself
        call = calls.get(turn.call_id) if turn.kind == "result" and turn.call_id else None
        (bubbles if call is None else call.results).append(bubble)
    return bubbles


def _bubble(turn: Turn, room: int | None) -> Bubble:
    text = turn.text if room is None else turn.text[: max(min(CUT_CHARACTERS, room), LEAST_CHARACTERS)]
    is_folded = len(text) > _FOLDED_CHARACTERS or text.count("\n") >= FOLDED_LINES
    return Bubble(turn, text, len(turn.text) - len(text), is_folded)
