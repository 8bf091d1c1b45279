"""Current and older names of a setting: which one is read, and the notice about an older one.

The current name wins over older ones. Each notice is logged once per process.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from typing import Final

__all__ = ["first_given"]

logger = logging.getLogger("llmspan")

#: what the variables of other programs begin with
_FOREIGN_VARIABLES: Final = ("LETTA_", "TELEMETRY_")
#: notices about older names that were logged: each is logged once
_noticed: set[str] = set()


def first_given(given_names: Container[str], names: Sequence[str], mark: str = "") -> str | None:
    """The first of a setting's ``names`` that is given; a notice says what is done about older ones.

    A variable of another program may stay beside ours without a notice: that program may need it.
    """
    chosen = next((name for name in names if name in given_names), None)
    if chosen is None:
        return None
    if chosen != names[0]:
        _notice_once(f"{chosen}{mark} is read as {names[0]}{mark}; please use the new name")
    for name in names[names.index(chosen) + 1 :]:
        if name in given_names and not name.startswith(_FOREIGN_VARIABLES):
            _notice_once(f"{name}{mark} is ignored because {chosen}{mark} is given; please remove the old name")
    return chosen


def _notice_once(notice: str) -> None:
    if notice not in _noticed:
        _noticed.add(notice)
        logger.warning("llmspan: %s", notice)
