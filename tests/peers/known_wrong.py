"""Cells that are known to be wrong, and why. A cell that turns right has to leave the list: it only shrinks."""

from __future__ import annotations

from dataclasses import dataclass

from peer import PEER_FIRST
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


_MESSAGES = ("messages", "messages stream", "messages manager")

RULES = (
    Rule("Logfire", "the SDK's own span of the call, suppressed, is current in front of Logfire's", _MESSAGES,
         (PEER_FIRST,)),
    Rule("OpenLIT", "its span has no attributes before it ends", _MESSAGES),
)  # fmt: skip

KNOWN_WRONG = {cell: rule.why for rule in RULES for cell in rule.cells()}
