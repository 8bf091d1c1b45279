"""All peers, by name."""

from __future__ import annotations

from frameworks import FRAMEWORKS
from instrumentations import INSTRUMENTATIONS
from other_frameworks import OTHER_FRAMEWORKS

PEERS = {peer.name: peer for peer in (*INSTRUMENTATIONS, *FRAMEWORKS, *OTHER_FRAMEWORKS)}
