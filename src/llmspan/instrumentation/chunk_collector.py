"""Appends the chunks of a response to its body, and stamps the first of them with the time at which they came.

Whoever reads a response passes each chunk on at once and has it collected: the tee under an HTTP body, or a wrapper of
an SDK's generator of events where the HTTP library may be any.
"""

from __future__ import annotations

import re
from time import perf_counter_ns
from typing import Final

from .body import TRIM_INTERVAL, Body

#: Only the time of the first output is needed, and reading the clock is the most expensive step per chunk. So stamping
#: ends after this many chunks that look like output. Reasoning models behind gateways may send any number of empty
#: deltas before: those are stamped and do not count.
_STAMPED_OUTPUTS: Final = 16
#: a chunk of more bytes is not searched: it contains output, or it is the first event, which repeats the request
_MAX_SEARCHED: Final = 8 * 1024
#: more than a response can have chunks
_ALL: Final = 1 << 62
#: a non-empty text under one of the keys that the APIs use for a model's output
_OUTPUT: Final = re.compile(
    rb'"(?:arguments|audio|b64_json|code|completion|content|delta|input|partial_json|reasoning|reasoning_content|refusal'
    rb'|text|thinking|transcript)"\s*:\s*"[^"]'
)


def _looks_like_output(chunk: bytes) -> bool:
    return len(chunk) > _MAX_SEARCHED or _OUTPUT.search(chunk) is not None


class ChunkCollector:
    """Collects the chunks of one response.

    There are two states, one after the other: while stamping, each chunk goes through :meth:`collect`; then one in
    ``TRIM_INTERVAL`` has to, and the reader may append the others to the body itself, as a call for each is expensive.
    """

    __slots__ = ("_is_stamping", "_outputs_to_stamp", "_to_append", "body")

    def __init__(self, body: Body, *, times_all_chunks: bool) -> None:
        self.body = body
        self._is_stamping = True
        #: chunks that :meth:`add` only appends before it calls :meth:`collect` again
        self._to_append = 0
        self._outputs_to_stamp = _ALL if times_all_chunks else _STAMPED_OUTPUTS

    def add(self, chunk: bytes) -> None:
        """Keep a chunk in either state, for readers to which a call for each is not expensive."""
        if self._to_append:
            self._to_append -= 1
            self.body.pieces.append(chunk)
        elif not self.collect(chunk):
            self._to_append = TRIM_INTERVAL - 1

    def collect(self, chunk: bytes) -> bool:
        """Keep a chunk, stamped with its time while stamping; whether the next one is to be stamped as well."""
        body = self.body
        body.pieces.append(chunk)
        # reset first: if this fails, later chunks have no time instead of a wrong one
        is_stamping, self._is_stamping = self._is_stamping, False
        if not is_stamping:
            body.trim()
            return False
        stamps = body.stamps
        stamps.append((stamps[-2] if stamps else 0) + len(chunk))
        stamps.append(perf_counter_ns())
        if self._outputs_to_stamp <= _STAMPED_OUTPUTS and _looks_like_output(chunk):
            self._outputs_to_stamp -= 1
        is_stamping = self._outputs_to_stamp > 0
        if not is_stamping or len(stamps) % (2 * TRIM_INTERVAL) == 0:
            body.trim()
        self._is_stamping = is_stamping
        return is_stamping
