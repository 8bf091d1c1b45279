"""What is read of one result of a batch, whichever provider's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .reply import Reply

__all__ = ["BatchResult"]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One request of a batch and its result. ``response`` is what the API had answered alone, an error, or None."""

    #: what tells it from the other results of its batch
    id: str | None
    #: what the program calls it
    custom_id: str | None
    #: ``succeeded``, ``errored``, ``canceled``, ``expired``, or what is yet to come
    kind: str
    reply: Reply
    response: Any
    #: the kind of call that the request would have been alone
    operation: str
    api: str
