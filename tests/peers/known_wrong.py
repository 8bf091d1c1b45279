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


_OPENAI = ("chat", "chat stream", "responses", "responses stream", "embeddings")

RULES = (
    Rule("OpenInference", "its wrapper on the subclass hides ours from the calls", _OPENAI,
         (ZERO_CODE_PEER_FIRST, PEER_FIRST)),
    Rule("Logfire", "its wrapper on the subclass hides ours from the calls", orders=(PEER_FIRST,)),
    Rule("OpenLIT", "its span is made of what is not the call's", ("messages", "messages stream", "messages manager")),
)  # fmt: skip

KNOWN_WRONG = {cell: rule.why for rule in RULES for cell in rule.cells()}
