"""Observation of provider SDKs: what is patched, how a call is followed to its end, and the record that is built of it.

One file per provider, found by the entry-point group ``llmspan.providers``. ``stainless/`` has the hooks of SDKs that
Stainless generates; everything else here is independent of the SDK. Finished calls go to a
:class:`llmspan.sink.RecordSink`; this package imports neither stores nor queues.
"""

from .content_capture import ContentCapture
from .observer import Observer, finish_open_calls
from .peers.recorded_spans import is_recorded, is_response_recorded
from .suppression import suppressed_calls

__all__ = [
    "ContentCapture",
    "Observer",
    "finish_open_calls",
    "is_recorded",
    "is_response_recorded",
    "suppressed_calls",
]
