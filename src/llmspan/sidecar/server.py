"""Accepting senders, one thread for each; batches into the archive, acknowledgements back.

A thread holds at most one batch and one unfinished frame. It reads no further while the archive stores, so a store that
is slow slows the senders down, and nothing piles up here.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from .._clock import monotonic
from .._guard import exception_of, guarded, logger
from ..backends.socket_link import SOFTWARE, limit_sends
from ..backends.socket_protocol import MAX_FRAME, ProtocolError, Received, Receiver
from ..backends.socket_records import decode_record
from ..errors import BackendError, RecordError, SettingsError, ThrottledError
from ..trace import ProviderTrace
from .archive import Archive
from .listen import Listener

__all__ = ["Sidecar"]

_BATCH_RECORDS: Final = 1000
_BATCH_BYTES: Final = 8 * 1024 * 1024
_READ: Final = 1024 * 1024
#: seconds: how long a sender may take to greet, to go on with a frame that it has begun, and to read an answer
_PATIENCE: Final = 30.0
#: how the software begins that masks credentials before it sends
_MASKING: Final = "llmspan/"
_UCRED: Final = struct.Struct("3i")


@dataclass(slots=True)
class _Batch:
    records: list[Received] = field(default_factory=list[Received])
    size: int = 0
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
        archive: where records go.
        allowed: user ids that may send; None for anybody who can connect.
        max_frame: bytes of the largest frame to take.
        max_clients: senders at a time.
    """

    def __init__(
        self,
        listener: Listener,
        archive: Archive,
        *,
        allowed: Collection[int] | None,
        max_frame: int = MAX_FRAME,
        max_clients: int = 64,
    ) -> None:
        self._listener = listener
        self._archive = archive
        self._allowed = allowed
        self._max_frame = max_frame
        self._max_clients = max_clients
        self._clients: set[threading.Thread] = set()
        self._stopped, self._stopper = os.pipe()

    def serve(self) -> None:
        """Accept senders; return after :meth:`stop`, when all that was read is stored and acknowledged, or refused."""
        self._listener.socket.setblocking(False)
        while not self._wait(self._listener.socket, None):
            try:
                connection, _ = self._listener.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:  # out of descriptors: those that are open will be closed
                logger.warning("llmspan: cannot accept a sender: %s", error.strerror)
                self._wait(None, 1.0)
                continue
            self._clients = {thread for thread in self._clients if thread.is_alive()}
            full = len(self._clients) >= self._max_clients
            thread = threading.Thread(target=self._welcome, args=[connection, full], name="llmspan-sender", daemon=True)
            if not full:
                self._clients.add(thread)
            if (error := exception_of(thread.start)) is not None:
                self._clients.discard(thread)
                connection.close()
                logger.warning("llmspan: no thread can be started for a sender: %s", error)
        self._listener.close()
        deadline = monotonic() + _PATIENCE
        for thread in self._clients:
            thread.join(max(0.0, deadline - monotonic()))

    def stop(self) -> None:
        """Make :meth:`serve` return. Safe in a signal handler."""
        os.write(self._stopper, b".")

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

    # -- one sender, in its thread ------------------------------------------------------------------------------------

    def _welcome(self, connection: socket.socket, full: bool) -> None:
        with connection:
            connection.setblocking(True)
            limit_sends(connection, _PATIENCE)
            refusal = self._refusal(connection, full=full)
            if refusal is not None:
                logger.warning("llmspan: a sender was refused: %s", refusal)
                with suppress(OSError):
                    connection.sendall(refusal.frame())
                return
            guarded("sidecar.sender", self._converse, connection)

    def _refusal(self, connection: socket.socket, *, full: bool) -> ProtocolError | None:
        if self._allowed is not None and hasattr(socket, "SO_PEERCRED"):
            pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            if uid not in self._allowed:
                return ProtocolError(
                    "not_allowed", f"uid {uid} (pid {pid}) may not send here; start the sidecar with --allow-uid {uid}"
                )
        if full:
            return ProtocolError("unavailable", f"{self._max_clients} senders are connected already", retry_after=1.0)
        return None

    def _converse(self, connection: socket.socket) -> None:
        receiver = Receiver(SOFTWARE, self._max_frame)
        end: ProtocolError | None = None
        try:
            while end is None:
                batch = self._gather(connection, receiver)
                end = self._store(connection, receiver, batch) or batch.end
                if batch.closed:
                    return
            logger.warning("llmspan: sender %s: %s", receiver.peer or "unknown", end)
            connection.sendall(end.frame())
        except OSError as error:
            logger.info("llmspan: sender %s is gone: %s", receiver.peer or "unknown", error)

    def _gather(self, connection: socket.socket, receiver: Receiver) -> _Batch:
        """Wait for something, then take all that is there already, up to a batch."""
        batch = _Batch()
        try:
            if self._wait(connection, None if receiver.idle else _PATIENCE):
                batch.end = ProtocolError("unavailable", "the sidecar is stopping", retry_after=0.5)
                return batch
        except TimeoutError:
            batch.end = ProtocolError("malformed", f"nothing came for {_PATIENCE:g} s where more was announced")
            return batch
        while not batch.full() and batch.end is None:
            try:
                data = connection.recv(_READ, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not data:
                batch.closed = True
                break
            try:
                for item in receiver.feed(data):
                    if isinstance(item, bytes):
                        connection.sendall(item)
                    else:
                        batch.add(item)
            except ProtocolError as error:
                batch.end = error
        return batch

    def _store(self, connection: socket.socket, receiver: Receiver, batch: _Batch) -> ProtocolError | None:
        """Store and acknowledge a batch; why that was not possible."""
        if not batch.records:
            return None
        traces: dict[int, ProviderTrace] = {}
        answers: list[bytes] = []
        for record in batch.records:
            found = guarded("sidecar.record", _decoded, record.frame)
            if isinstance(found, ProviderTrace):
                traces[record.seq] = found
            else:  # one that we cannot read must not keep those behind it from being read
                answers.append(receiver.reject(record.seq, found or "the sidecar could not read it; its log says why"))
        try:
            rejected = self._archive.store(traces.values(), is_masked=receiver.peer.startswith(_MASKING))
        except (BackendError, SettingsError) as error:
            delay = error.delay if isinstance(error, ThrottledError) else None
            return ProtocolError("unavailable", str(error), retry_after=delay)
        if rejected:
            found = ((seq, rejected[trace.id]) for seq, trace in traces.items() if trace.id in rejected)
            answers.extend(receiver.reject(seq, reason) for seq, reason in found)
        connection.sendall(b"".join([*answers, receiver.ack(batch.records[-1].seq)]))
        return None


def _decoded(frame: bytes) -> ProviderTrace | str:
    """The record in a frame, or why there is none."""
    try:
        return decode_record(frame)
    except RecordError as error:
        return str(error)
