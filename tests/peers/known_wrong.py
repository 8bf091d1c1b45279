"""Cells that are known to be wrong, and why. A cell that turns right has to leave the list: it only shrinks."""

from __future__ import annotations

from dataclasses import dataclass

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


RULES: tuple[Rule, ...] = ()

KNOWN_WRONG = {cell: rule.why for rule in RULES for cell in rule.cells()}
