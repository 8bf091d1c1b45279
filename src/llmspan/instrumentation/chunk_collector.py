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


class ChunkCollector:
    """Collects the chunks of one response.

    There are two states, one after the other: while stamping, the time of each chunk is kept; then none is. In both,
    :meth:`collect` is called once every few chunks, and whoever reads the response appends the others himself, as a
    call for each is expensive.
    """

    __slots__ = ("_appended", "_expected", "_outputs_to_stamp", "_to_append", "_to_stamp", "body")

    def __init__(self, body: Body, *, times_all_chunks: bool) -> None:
        self.body = body
        #: the number of pieces at the latest :meth:`collect`, and of the stamped ones that are to follow until the next
        self._appended = 0
        self._expected = 1
        self._outputs_to_stamp = _ALL if times_all_chunks else _STAMPED_OUTPUTS
        #: chunks that :meth:`add` only appends, or appends with their times, before it calls :meth:`collect` again
        self._to_append = 0
        self._to_stamp = 0

    def add(self, chunk: bytes) -> None:
        """Keep a chunk in either state, for readers to which a call for each is not expensive."""
        self.body.pieces.append(chunk)
        if self._to_append:
            self._to_append -= 1
        elif self._to_stamp > 1:
            self._to_stamp -= 1
            self.body.arrivals.append(perf_counter_ns())
        else:
            self._to_stamp = self.collect(perf_counter_ns())
            self._to_append = 0 if self._to_stamp else TRIM_INTERVAL - 1

    def collect(self, now: int) -> int:
        """Take note of the chunks that were appended since the last time, the latest of them at ``now``.

        Returns how many chunks are to be stamped from now on: this is called again at the last of them. 0: none any
        more; this is called again after ``TRIM_INTERVAL`` chunks.
        """
        body = self.body
        # reset first: if this fails, later chunks have no time instead of a wrong one
        expected, self._expected = self._expected, 0
        chunks = body.pieces[self._appended :] if expected else []
        if len(chunks) != expected or not expected:
            body.trim()
            return 0
        body.arrivals.append(now)
        if self._outputs_to_stamp <= _STAMPED_OUTPUTS:
            for chunk in chunks:
                if len(chunk) > _MAX_SEARCHED or _OUTPUT.search(chunk) is not None:
                    self._outputs_to_stamp -= 1
        expected = min(self._outputs_to_stamp, TRIM_INTERVAL)
        if not expected or len(body.arrivals) + expected > TRIM_INTERVAL:
            body.trim()
        self._appended, self._expected = len(body.pieces), expected
        return expected
