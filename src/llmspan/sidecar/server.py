"""Accepting senders, one thread for each; batches into the record store, acknowledgements back.

A thread holds at most one batch and one unfinished frame, and only so many threads hold a batch at a time. It reads no
further while the record store writes, so a store that is slow slows the senders down, and nothing piles up here.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from .._clock import monotonic
from .._guard import exception_of, guarded
from ..backends.socket.connection import SOFTWARE, limit_sends
from ..backends.socket.protocol import MAX_FRAME, ProtocolError, Received, Receiver
from ..backends.socket.records import decode_item
from ..errors import BackendError, RecordError, SettingsError, ThrottledError
from ..pipeline.rate_limited_log import RateLimitedLog
from ..span_record import SpanRecord, StoredItem
from ..trace import ProviderTrace
from .listen import Listener
from .record_store import RecordStore
from .senders import Sender, Senders, limit_by_descriptors

__all__ = ["MAX_CLIENTS", "Sidecar"]

#: senders at a time: a host of 500 workers, twice, as when all of them are replaced
MAX_CLIENTS: Final = 1000
_BATCH_RECORDS: Final = 1000
_BATCH_BYTES: Final = 8 * 1024 * 1024
#: batches in memory at a time; senders beyond wait with theirs unread
_MOST_BATCHES: Final = 64
_READ: Final = 1024 * 1024
#: seconds: how long a sender may take to greet, to go on with a frame that it has begun, and to read an answer
_SENDER_TIMEOUT: Final = 30.0
#: seconds for a whole frame, however it trickles in
_FRAME_TIMEOUT: Final = 300.0
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_UCRED: Final = struct.Struct("3i")


@dataclass(slots=True)
class _Batch:
    records: list[Received] = field(default_factory=list[Received])
    size: int = 0
    #: the frame that its sender gets
    answers: list[bytes] = field(default_factory=list[bytes])
    #: why nothing more is taken after it
    end: ProtocolError | None = None
    #: the sender hung up
    closed: bool = False

    def add(self, record: Received) -> None:
        self.records.append(record)
        self.size += len(record.frame)

    def full(self) -> bool:
        return len(self.records) >= _BATCH_RECORDS or self.size >= _BATCH_BYTES


class Sidecar:
    """Serves a listener until :meth:`stop`.

    Args:
        listener: where senders connect.
        record_store: where records go.
        allowed: user ids that may send; None for anybody who can connect.
        max_frame: bytes of the largest frame to take.
        max_clients: senders at a time, as far as the limit of open files allows.
    """

    def __init__(
        self,
        listener: Listener,
        record_store: RecordStore,
        *,
        allowed: Collection[int] | None,
        max_frame: int = MAX_FRAME,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._listener = listener
        self._record_store = record_store
        self._allowed = allowed
        self._max_frame = max_frame
        self._senders = Senders(limit_by_descriptors(max_clients))
        self._batches = threading.Semaphore(_MOST_BATCHES)
        self._log = RateLimitedLog()
        self._stopped, self._stopper = os.pipe()
        os.set_blocking(self._stopper, False)

    def serve(self) -> None:
        """Accept senders; return after :meth:`stop`, when all that was read is stored and acknowledged, or refused."""
        self._listener.socket.setblocking(False)
        while not self._wait(self._listener.socket, None):
            try:
                connection, _ = self._listener.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                self._make_room(error)
                continue
            self._admit(connection)
        self._listener.close()
        deadline = monotonic() + _SENDER_TIMEOUT
        for thread in self._senders.threads():
            thread.join(max(0.0, deadline - monotonic()))

    @property
    def sender_count(self) -> int:
        """How many senders are connected."""
        return len(self._senders.threads())

    def stop(self) -> None:
        """Make :meth:`serve` return. Safe in a signal handler."""
        os.write(self._stopper, b".")

    @contextmanager
    def stopping_at_signals(self) -> Generator[None]:
        """Let each signal that Python handles stop this during the block; in the main thread.

        A handler runs in Python, and so not while the main thread waits. The system interrupts the wait, unless the
        signal comes at the moment before it begins, or another thread receives it: then nothing would end the wait.
        """
        previous = signal.set_wakeup_fd(self._stopper, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)

    def close(self) -> None:
        """Release what :meth:`serve` needed; after it has returned."""
        os.close(self._stopped)
        os.close(self._stopper)

    def _wait(self, connection: socket.socket | None, timeout: float | None) -> bool:
        """Wait until ``connection`` can be read; whether it is time to stop."""
        poll = select.poll()
        poll.register(self._stopped, select.POLLIN)
        if connection is not None:
            poll.register(connection, select.POLLIN)
        ready = dict(poll.poll(None if timeout is None else timeout * 1000))
        if not ready and connection is not None:
            raise TimeoutError
        return self._stopped in ready

    def _make_room(self, error: OSError) -> None:
        """A sender could not be accepted: close an idle one if descriptors are short, else wait a little."""
        self._log.warning("accept", "llmspan: cannot accept a sender: %s", error.strerror)
        idle = self._senders.close_longest_idle() if error.errno in _NO_DESCRIPTORS else None
        if idle is not None and idle.thread is not None:
            idle.thread.join(1.0)
        else:
            self._wait(None, 1.0)

    def _admit(self, connection: socket.socket) -> None:
        """Start a thread for a newcomer, which serves or refuses it."""
        connection.setblocking(True)
        refusal = self._forbids(connection)
        sender = self._senders.admit(connection) if refusal is None else None
        if sender is None:
            full = f"{self._senders.most} senders are connected already, and none is idle"
            refusal = refusal or ProtocolError("unavailable", full, retry_after=1.0)
            target = threading.Thread(
                target=self._refuse, args=[connection, refusal], name="llmspan-sender", daemon=True
            )
        else:
            target = threading.Thread(target=self._serve, args=[sender], name="llmspan-sender", daemon=True)
            sender.thread = target
        if (error := exception_of(target.start)) is not None:
            if sender is not None:
                self._senders.remove(sender)
            self._log.warning("thread", "llmspan: no thread can be started for a sender: %s", error)
            self._senders.close_longest_idle()  # who comes next may have its thread
            with connection, suppress(OSError):
                connection.sendall(ProtocolError("unavailable", f"no thread: {error}", retry_after=1.0).frame())

    def _forbids(self, connection: socket.socket) -> ProtocolError | None:
        if self._allowed is not None and hasattr(socket, "SO_PEERCRED"):
            pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            if uid not in self._allowed:
                return ProtocolError(
                    "not_allowed", f"uid {uid} (pid {pid}) may not send here; start the sidecar with --allow-uid {uid}"
                )
        return None

    # -- one sender, in its thread ------------------------------------------------------------------------------------

    def _refuse(self, connection: socket.socket, refusal: ProtocolError) -> None:
        self._log.warning(f"refused {refusal.code}", "llmspan: a sender was refused: %s", refusal)
        with connection, suppress(OSError):
            limit_sends(connection, _SENDER_TIMEOUT)
            connection.sendall(refusal.frame())

    def _serve(self, sender: Sender) -> None:
        with sender.connection:
            try:
                limit_sends(sender.connection, _SENDER_TIMEOUT)
                guarded("sidecar.sender", self._converse, sender)
            finally:
                self._senders.remove(sender)

    def _converse(self, sender: Sender) -> None:
        receiver = Receiver(SOFTWARE, self._max_frame, takes_spans=self._record_store.takes_spans)
        end: ProtocolError | None = None
        try:
            while (end := self._await(sender, receiver)) is None:
                with self._batches:
                    batch = self._read(sender, receiver)
                    end = self._store(receiver, batch)
                if end is None and not receiver.pending:  # before the answer: who has it may be idle
                    self._senders.begin_idle(sender)
                if batch.answers:
                    sender.connection.sendall(b"".join(batch.answers))
                if batch.closed:
                    return
                if (end := end or batch.end) is not None:
                    break
            self._tell_end(receiver, end)
            sender.connection.sendall(end.frame())
        except OSError as error:
            self._log.info("gone", "llmspan: sender %s disconnected: %s", receiver.peer or "unknown", error)

    def _tell_end(self, receiver: Receiver, end: ProtocolError) -> None:
        subject, message = f"end {end.code}", "llmspan: sender %s: %s"
        if isinstance(end, _EvictedError):
            subject, message = "full", message + ". All places are taken (--max-clients); this is said once a minute"
        self._log.warning(subject, message, receiver.peer or "unknown", end)

    def _await(self, sender: Sender, receiver: Receiver) -> ProtocolError | None:
        """Wait for something to read; why nothing more is read."""
        end: ProtocolError | None = None
        try:
            if self._wait(sender.connection, None if receiver.idle else _SENDER_TIMEOUT):
                end = ProtocolError("unavailable", "the sidecar is stopping", retry_after=0.5)
        except TimeoutError:
            end = ProtocolError("malformed", f"nothing came for {_SENDER_TIMEOUT:g} s where more was announced")
        if not self._senders.end_idle(sender):
            return _EvictedError(
                "unavailable", "the connection was idle and its slot is needed for another sender; connect again"
            )
        if end is None and sender.frame_since is not None and monotonic() - sender.frame_since > _FRAME_TIMEOUT:
            end = ProtocolError("malformed", f"a frame has not ended within {_FRAME_TIMEOUT:g} s")
        return end

    def _read(self, sender: Sender, receiver: Receiver) -> _Batch:
        """Take all that is there already, up to a batch."""
        batch = _Batch()
        while not batch.full() and batch.end is None:
            try:
                data = sender.connection.recv(_READ, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not data:
                batch.closed = True
                break
            try:
                for item in receiver.feed(data):
                    if isinstance(item, bytes):
                        batch.answers.append(item)
                    else:
                        batch.add(item)
            except ProtocolError as error:
                batch.end = error
        if not receiver.pending:
            sender.frame_since = None
        elif batch.records or sender.frame_since is None:
            sender.frame_since = monotonic()
        return batch

    def _store(self, receiver: Receiver, batch: _Batch) -> ProtocolError | None:
        """Store a batch, and add the answers to it; why that was not possible."""
        if not batch.records:
            return None
        items: dict[int, StoredItem] = {}
        rejects: list[bytes] = []
        for record in batch.records:
            decoded = guarded("sidecar.record", _decoded, record.frame)
            if isinstance(decoded, ProviderTrace | SpanRecord):
                items[record.seq] = decoded
            else:  # one that we cannot read must not keep those behind it from being read
                reason = decoded or "the sidecar could not read it; its log says why"
                rejects.append(receiver.reject(record.seq, reason))
        try:
            rejected = self._record_store.store(items.values())
        except (BackendError, SettingsError) as error:
            delay = error.delay if isinstance(error, ThrottledError) else None
            return ProtocolError("unavailable", str(error), retry_after=delay)
        if rejected:
            refused = ((seq, rejected[decoded.id]) for seq, decoded in items.items() if decoded.id in rejected)
            rejects.extend(receiver.reject(seq, reason) for seq, reason in refused)
        batch.answers += [*rejects, receiver.ack(batch.records[-1].seq)]
        return None


class _EvictedError(ProtocolError):
    """The connection is closed because another sender needs its slot."""


def _decoded(frame: bytes) -> StoredItem | str:
    """The record or the span in a frame, or why there is none."""
    try:
        return decode_item(frame)
    except RecordError as error:
        return str(error)
