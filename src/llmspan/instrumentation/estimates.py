"""Estimated tokens for the record of a call whose provider reported none. Reading texts is slow: on the worker only."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..content import ContentPolicy
from ..estimate import Estimator
from ..trace import ProviderTrace
from .call import Call
from .record import payload_texts

#: estimates count all of request and response, not only what may be stored
_UNLIMITED: Final = ContentPolicy(max_media_bytes=1 << 62, max_bytes=1 << 62)
_ESTIMATED_OPERATIONS: Final = frozenset({"chat", "text_completion", "embeddings"})


def with_estimates(record: ProviderTrace, call: Call, estimator: Estimator) -> ProviderTrace:
    """``record`` with estimates in ``usage.details``, if it has no usage and its payload was not dropped."""
    if record.usage.source != "none" or record.operation not in _ESTIMATED_OPERATIONS or record.status == "error":
        return record
    request, response, _ = payload_texts(call, _UNLIMITED)
    details = estimator.estimate(request, response, record.response_model or record.request_model)
    if not details:
        return record
    return replace(record, usage=replace(record.usage, details={**record.usage.details, **details}))
