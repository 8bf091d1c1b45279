"""Cells that are known to be wrong, and why. A cell that turns right has to leave the list: it only shrinks."""

from __future__ import annotations

from dataclasses import dataclass

from peer import PEER_FIRST, ZERO_CODE_PEER_FIRST
from registry import PEERS


@dataclass(frozen=True)
class Rule:
    """Cells of one peer; all of its orders or surfaces where none are named."""

    peer: str
    why: str
    surfaces: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()

    def cells(self) -> list[tuple[str, str, str]]:
        """(peer, order, surface) of each cell."""
        peer = PEERS[self.peer]
        return [
            (self.peer, order, surface)
            for order in self.orders or peer.orders
            for surface in self.surfaces or peer.calls
        ]


_CHATS = ("chat", "chat stream", "responses", "responses stream")
_MESSAGES = ("messages", "messages stream")

RULES = (
    Rule("OpenInference", "its wrapper on the subclass hides ours from the calls", _CHATS,
         (ZERO_CODE_PEER_FIRST, PEER_FIRST)),
    Rule("OpenInference", "its span is not current, or not taken for the call's", ("messages manager", "embeddings")),
    Rule("OpenInference for LangChain", "the context has nothing of its span", (*_CHATS, *_MESSAGES)),
    Rule("OpenLLMetry", "its span is not current",
         ("responses", "responses stream", *_MESSAGES, "messages manager")),
    Rule("OpenLLMetry for LangChain", "its span is not current; the key in the context is not read",
         (*_CHATS, *_MESSAGES)),
    Rule("Logfire", "it suppresses instrumentation during the call"),
    Rule("Langfuse's openai wrapper", "its span is not current"),
    Rule("OpenLIT", "its span is of kind INTERNAL, or not current", (*_MESSAGES, "messages manager")),
    Rule("Strands Agents", "its chat span is of kind INTERNAL"),
    Rule("Agent Framework", "its chat span is of kind INTERNAL"),
    Rule("Pydantic AI", "its embeddings span is of kind INTERNAL", ("embeddings",)),
    Rule("Semantic Kernel", "its chat span is of kind INTERNAL", ("chat", "chat stream")),
    Rule("OpenInference for LlamaIndex", "its span has no attribute of a call when the call is made",
         ("chat", "chat stream", "responses", *_MESSAGES)),
)  # fmt: skip

KNOWN_WRONG = {cell: rule.why for rule in RULES for cell in rule.cells()}
