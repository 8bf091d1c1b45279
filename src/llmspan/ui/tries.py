"""Wrong passwords, counted by the address that they come from: after a few, an address has to wait.

While it waits, no password of it is looked at, not even the right one: otherwise the answer would come at once for the
right one, and many could be tried side by side.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from .._bounded import drop_oldest
from .._clock import monotonic

__all__ = ["PasswordTries"]

#: wrong passwords that cost nothing
FREE_TRIES: Final = 5
#: seconds after the next one; each further one doubles it
FIRST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 900.0
#: seconds without a try after which an address begins anew
_FORGET_AFTER: Final = 3600.0
_MOST_ADDRESSES: Final = 10_000


@dataclass(slots=True)
class _Address:
    wrong: int = 0
    last_try: float = 0.0
    locked_until: float = 0.0


class PasswordTries:
    """Who has tried a wrong password, how often, and until when an address has to wait."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def pause(self, client: str) -> float:
        """Seconds until a password of ``client`` is looked at; 0 for now."""
        entry = self._addresses.get(_network(client))
        return 0.0 if entry is None else max(entry.locked_until - self._clock(), 0.0)

    def note_wrong(self, client: str) -> None:
        """``client`` has given a wrong password."""
        now, network = self._clock(), _network(client)
        entry = self._addresses.pop(network, None)
        if entry is None or now - entry.last_try > _FORGET_AFTER:
            entry = _Address()
        entry.wrong += 1
        entry.last_try = now
        beyond = entry.wrong - FREE_TRIES
        if beyond > 0:
            entry.locked_until = now + min(FIRST_PAUSE * 2.0 ** min(beyond - 1, 30), LONGEST_PAUSE)
        self._addresses[network] = entry
        drop_oldest(self._addresses, _MOST_ADDRESSES)

    def note_right(self, client: str) -> None:
        """``client`` has given the password: what it tried before is forgotten."""
        self._addresses.pop(_network(client), None)


def _network(client: str) -> str:
    """The address; of IPv6 the network, of which a single machine has all addresses."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{address.exploded[:19]}::/64"
