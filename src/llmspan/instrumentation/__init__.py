"""Observation of provider SDKs: what is patched, how a call is followed to its end, and the record made of it.

One file per provider, found by the entry-point group ``llmspan.providers``. This room knows neither stores nor queues;
finished calls go to a :class:`Sink`.
"""

from ._bound import is_bound, is_bound_response
from ._call import Pending, Sink
from ._content import Capture
from ._observe import Observer, finish_open_calls
from ._suppression import suppressed_calls

__all__ = [
    "Capture",
    "Observer",
    "Pending",
    "Sink",
    "finish_open_calls",
    "is_bound",
    "is_bound_response",
    "suppressed_calls",
]
