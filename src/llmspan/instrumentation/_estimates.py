"""Estimated tokens for the record of a call whose provider reported none. On the worker: reading texts is slow."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..content import Policy
from ..estimate import Estimator
from ..trace import ProviderTrace
from ._call import Call
from ._record import payload

#: what the call was, not what may be stored of it
_WHOLE: Final = Policy(max_media_bytes=1 << 62, max_bytes=1 << 62)
_ESTIMATED: Final = frozenset({"chat", "text_completion", "embeddings"})


def with_estimates(record: ProviderTrace, call: Call, estimator: Estimator) -> ProviderTrace:
    """``record`` with estimates in ``usage.details``, if it has no usage and what was sent is still there."""
    if record.usage.source != "none" or record.operation not in _ESTIMATED or record.status == "error":
        return record
    request, response, _ = payload(call, _WHOLE)
    details = estimator.estimate(request, response, record.response_model or record.request_model)
    if not details:
        return record
    return replace(record, usage=replace(record.usage, details={**record.usage.details, **details}))
