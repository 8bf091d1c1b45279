"""The results of a Message Batch: one record each, built while the caller reads them.

The bytes go to the worker while the caller reads, so a batch of any size is never in memory.
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final

from ..._bounded import drop_oldest
from ..._guard import guarded
from ...limits import id_key
from ...wire.apis.anthropic_batches import read_result
from ..batch_results import MAX_BATCHES, PendingResult, Times, count_as_reported, times_of
from ..body import Body
from ..call import Call
from ..decoding import UndecodableError, decoder
from ..finished_call import FinishedCall

#: bytes that are passed to the worker together
_SLICE_SIZE: Final = 256 * 1024


class BatchTimes:
    """The times of the batches that the program has retrieved last: the SDK retrieves one before its results."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, Times] = OrderedDict()

    def remember(self, batch: Any) -> None:
        """Keep the times of a ``MessageBatch`` that has ended."""
        batch_id, created, ended = (getattr(batch, key, None) for key in ("id", "created_at", "ended_at"))
        times = times_of(created, ended)
        if isinstance(batch_id, str) and times is not None:
            self._times[id_key(batch_id)] = times
            drop_oldest(self._times, MAX_BATCHES)

    def get(self, batch_id: str) -> Times | None:
        """The times of a batch, if it was retrieved."""
        return self._times.get(id_key(batch_id))


class BatchResults:
    """The results of one fetch; see :class:`llmspan.instrumentation.call.BatchResultsSink`."""

    def __init__(self, call: Call, batch_id: str, times: Times | None) -> None:
        self.batch_id = batch_id
        self.times = times
        #: each result says what its model and its tier are
        self.model: str | None = None
        self.service_tier: str | None = None
        self._call: Call | None = call
        self._decode: Callable[[bytes], Iterator[bytes]] | None = None
        #: the bytes behind the last line feed
        self._partial_line = b""
        self._kinds: Counter[str] = Counter()
        self._line_count = 0

    def new_body(self, encoding: str, client: str) -> Body:
        """A body that passes its bytes on. A retry of the request starts from the first result again."""
        self._partial_line, self._kinds, self._line_count = b"", Counter(), 0
        self._decode = guarded("batch.decoding", decoder, encoding, client)
        return _StreamedBody(self)

    def finish(self, finished: FinishedCall) -> None:
        """Submit the remaining results, then the call that fetched them, on the sink's worker."""
        finished.call.observer.sink.defer(functools.partial(self._finish, finished))

    def _finish(self, finished: FinishedCall) -> None:
        call = finished.call
        if isinstance(call.body, _StreamedBody):
            guarded("batch.take", self.read_pieces, call.body.pieces, is_last=True)
        self._call = None
        call.observer.sink.submit(finished)

    def summary(self) -> Any:
        """The number of results of each kind."""
        return {"batch_id": self.batch_id, "results": dict(sorted(self._kinds.items()))}

    def defer_pieces(self, pieces: list[bytes]) -> None:
        """Read ``pieces`` on the sink's worker, which keeps the order of these calls."""
        if self._call is not None:
            self._call.observer.sink.defer(lambda: guarded("batch.take", self.read_pieces, pieces))

    def read_pieces(self, pieces: list[bytes], *, is_last: bool = False) -> None:
        """Submit a record for each line that ends in ``pieces``."""
        call = self._call
        if call is None or self._decode is None:
            return
        decoded = self._decoded(pieces, self._decode)
        *lines, self._partial_line = b"".join([self._partial_line, *decoded]).split(b"\n")
        for line in [*lines, self._partial_line] if is_last else lines:
            result = read_result(line) if line.strip() else None
            if result is not None:
                self._kinds[result.kind] += 1
                reported = count_as_reported(call, self.batch_id, self._line_count)
                self._line_count += 1
                call.observer.sink.submit(PendingResult(call, self, result, len(line), is_reported=reported))

    def _decoded(self, pieces: list[bytes], decode: Callable[[bytes], Iterator[bytes]]) -> Iterator[bytes]:
        """The decoded bytes of ``pieces``, up to those that cannot be decoded: the client has raised there as well."""
        try:
            for piece in pieces:
                yield from decode(piece)
        except UndecodableError:
            self._decode = None


class _StreamedBody(Body):
    """A body that passes its bytes on instead of keeping them."""

    def __init__(self, results: BatchResults) -> None:
        super().__init__(_SLICE_SIZE)
        self._results = results

    def trim(self) -> None:
        """Pass on what was received since the last time, if it is enough."""
        size = self.size
        if size >= _SLICE_SIZE:
            pieces = list(self.pieces)
            self.dropped += size
            self.pieces.clear()
            self._results.defer_pieces(pieces)
