"""The socket backend: records go to a sidecar on the same machine, which stores them.

With v4 (docs/socket-protocol.md) a write returns when the sidecar has acknowledged every record, so that "delivered"
means stored at the other end; what was acknowledged before a connection broke is not sent again. With v3, one JSON
line and one connection a record, "delivered" only means that the system took the bytes: that protocol has no answer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, NoReturn

from ..._clock import monotonic
from ..._fork import ForkGroup
from ..._guard import logger
from ..._log import WarningsOnce
from ..._native import Lock
from ...errors import (
    BackendError,
    LlmspanError,
    PermanentError,
    RefusedError,
    RetryableError,
    SchemaError,
    SettingsError,
    ThrottledError,
)
from ...limits import id_key
from ...settings import Settings, SocketFraming
from ...span_record import SpanRecord, StoredItem
from ...trace import ProviderTrace
from .connection import Link, connect
from .protocol import MAX_FRAME, VERSION, ProtocolError
from .records import encode_record, encode_span, v3_line, without_payload

__all__ = ["DEFAULT_PATH", "SocketBackend"]

DEFAULT_PATH: Final = Path("/run/llmspan/llmspan.sock")

#: failures of the place or of our rights, which waiting does not mend
_WRONG_PLACE: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOTSOCK, errno.EPROTOTYPE, errno.ELOOP}
)
#: seconds for the answer to a greeting, for which a receiver need not store anything
_GREETING: Final = 5.0
_MOST_REMEMBERED: Final = 10_000
#: codes of errors that are the fault of the record that they name
_RECORD_ERRORS: Final = frozenset({"malformed", "too_large"})
#: what the receivers of v3 take in one line
_LONGEST_LINE: Final = 128 * 1024 * 1024


class SocketBackend:
    """Sends provider traces to the Unix socket at ``path``; nothing can be read back from it.

    Args:
        path: the socket; :data:`DEFAULT_PATH` if not given.
        framing: ``v4``, or ``v3`` for older receivers.
        write_timeout: seconds that one write may take.
        max_frame: bytes of the largest frame to send; the receiver may allow less.
    """

    name: ClassVar[str] = "socket"
    readable: ClassVar[bool] = False

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        framing: SocketFraming = "v4",
        write_timeout: float = 30.0,
        max_frame: int = MAX_FRAME,
    ) -> None:
        self._path = DEFAULT_PATH if path is None else Path(path).absolute()
        self._framing = framing
        self._timeout = write_timeout
        self._max_frame = max_frame
        self._lock = Lock()
        self._link: Link | None = None
        #: what the last greeting said; None before the first
        self._takes_spans: bool | None = None
        self._warnings = WarningsOnce()
        #: keys of the ids that are safe though their batch failed: it comes again, whole or in parts
        self._safe: set[str] = set()
        #: records that lost their payload because the receiver takes no frame so large
        self.cut = 0
        _backends.add(self)

    @classmethod
    def from_settings(cls, settings: Settings) -> SocketBackend:
        """The socket that the settings name. Does not connect."""
        return cls(settings.socket, framing=settings.socket_framing, write_timeout=settings.write_timeout)

    @property
    def location(self) -> str:
        """The path of the socket."""
        return str(self._path)

    def open(self) -> None:
        """Connect and agree on the protocol; with v3, which has no greeting, do nothing."""
        if self._framing == "v4":
            with self._lock, self._translate_errors():
                self._greeted(self._deadline())

    def check(self) -> str:
        """Who answers at the socket, and what it takes."""
        with self._lock, self._translate_errors():
            if self._framing == "v3":
                connect(self._path, self._deadline()).close()
                return f"something listens (v3: it does not say what), {self._path}"
            link = self._greeted(self._deadline())
            return f"{link.peer}, protocol {VERSION}, frames of up to {link.max_frame:,} bytes, {self._path}"

    def migrate(self) -> Sequence[str]:
        """Nothing: the receiver looks after its own stores."""
        return []

    def force_flush(self, timeout: float) -> bool:
        """True: with v4 a write is safe when it returns; with v3 nothing can be waited for."""
        del timeout
        return True

    def shutdown(self) -> None:
        """Hang up."""
        with self._lock:
            self._hang_up()

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Send ``traces``; return when all are acknowledged (v4), or handed to the system (v3).

        Raises:
            PermanentError: a record cannot be sent, or the receiver will never take it; the message names it. Others
                may have been stored, and are not sent again when they come in another batch.
            RetryableError: no process listens, the connection broke, the receiver cannot store now, or a timeout.
        """
        with self._lock, self._translate_errors():
            if self._framing == "v3":
                self._write_lines(traces)
            else:
                self._write_frames(traces)

    @property
    def keeps_spans(self) -> bool:
        """Whether spans can be sent: with v4, and until a greeting says that the receiver takes none."""
        if self._framing == "v4" and self._takes_spans is not False:
            return True
        reason = "v3 has none" if self._framing == "v3" else "the sidecar there is older, or its stores keep none"
        self._warnings.warn(
            "llmspan: socket: %s takes no spans (%s), so that trees show calls only", self._path, reason
        )
        return False

    def write_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Send spans; return when all are acknowledged. Raises as :meth:`write` does."""
        with self._lock, self._translate_errors():
            if not self._greeted(self._deadline()).takes_spans:
                raise RetryableError(f"{self._path}: the receiver takes no spans any more")
            self._write_frames(spans)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Reading is not possible here."""
        raise BackendError(
            f"the socket {self._path} only takes records; read them from the store that its receiver writes to"
        )

    get = get_by_step_id = list_by_step_id = list = ids_with_prefix = stats = _refuse

    # -- v4 -----------------------------------------------------------------------------------------------------------

    def _write_frames(self, traces: Sequence[StoredItem]) -> None:
        deadline = self._deadline()
        encoded = [(record, _encode(record)) for record in traces if id_key(record.id) not in self._safe]
        if not encoded:
            return
        link = self._greeted(deadline)
        bodies = [self._fitting(record, body, link.largest_body) for record, body in encoded]
        try:
            link.deliver(bodies, deadline)
        except (OSError, ProtocolError) as error:
            at = error.seq if isinstance(error, ProtocolError) and error.code in _RECORD_ERRORS else None
            if at is None or not 0 <= at < len(encoded):
                raise
            self._hang_up()
            raise PermanentError(f"record {encoded[at][0].id}: refused at {self._path}: {error}") from error
        finally:
            if link.rejected or link.acked < len(encoded):
                numbered = enumerate(encoded[: link.acked])
                self._remember([record for at, (record, _) in numbered if at not in link.rejected])
        for at, reason in link.rejected.items():
            raise PermanentError(f"record {encoded[at][0].id}: refused at {self._path}: {reason}")

    def _remember(self, records: Sequence[StoredItem]) -> None:
        if len(self._safe) > _MOST_REMEMBERED:
            self._safe.clear()
        self._safe |= {id_key(record.id) for record in records}

    def _greeted(self, deadline: float) -> Link:
        if self._link is not None and not self._link.alive():
            self._hang_up()
        if self._link is None:
            # A program may wait for this at its start, and a receiver of v3 would never answer.
            self._link = Link(self._path, min(deadline, monotonic() + _GREETING), self._max_frame)
            self._takes_spans = self._link.takes_spans
        return self._link

    def _fitting(self, record: StoredItem, body: bytes, largest: int) -> bytes:
        if len(body) <= largest:
            return body
        if isinstance(record, SpanRecord):
            raise PermanentError(f"span {record.id}: {len(body)} bytes; {self._path} takes {largest}")
        shorter = encode_record(without_payload(record))
        if len(shorter) > largest:
            raise PermanentError(
                f"record {record.id}: {len(shorter)} bytes without its payloads; {self._path} takes {largest}"
            )
        self.cut += 1
        logger.warning("llmspan: record %s goes to %s without its payloads: with them it has %d bytes, the limit there"
                       " is %d", record.id, self._path, len(body), largest)  # fmt: skip
        return shorter

    # -- v3 -----------------------------------------------------------------------------------------------------------

    def _write_lines(self, traces: Sequence[ProviderTrace]) -> None:
        deadline = self._deadline()
        for at, record in enumerate(traces):
            if id_key(record.id) in self._safe:
                continue
            line = v3_line(record)
            if len(line) > _LONGEST_LINE:
                line = v3_line(without_payload(record))
                self.cut += 1
            try:
                with connect(self._path, deadline) as connection:
                    connection.settimeout(max(0.001, deadline - monotonic()))
                    connection.sendall(line)
            except OSError:
                self._remember(traces[:at])
                raise

    # -- what both need -----------------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return monotonic() + self._timeout

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    @contextmanager
    def _translate_errors(self) -> Generator[None]:
        """What goes wrong with the connection, in our errors; it is closed then."""
        try:
            yield
        except ProtocolError as error:
            self._hang_up()
            raise self._wire_error(error) from error
        except OSError as error:
            greeted = self._link is not None or self._framing == "v3"
            self._hang_up()
            raise self._system_error(error, greeted=greeted) from error

    def _system_error(self, error: OSError, *, greeted: bool) -> LlmspanError:
        reason = error.strerror or str(error)
        if isinstance(error, TimeoutError) or error.errno == errno.EAGAIN:
            if not greeted:
                limit = min(self._timeout, _GREETING)
                hint = "if the receiver uses v3, set LLMSPAN_SOCKET_FRAMING=v3"
                return RetryableError(f"{self._path}: no answer to the greeting within {limit:g} s; {hint}")
            return RetryableError(f"{self._path}: not all was acknowledged within {self._timeout:g} s")
        if error.errno in _WRONG_PLACE:
            return self._wrong(f"{reason}; it must be a socket that this user (uid {os.getuid()}) may write to")
        if error.errno is None and "too long" in reason:
            length = len(os.fsencode(self._path))
            return SettingsError(f"LLMSPAN_SOCKET={self._path}: the path has {length} bytes, and the system takes 107")
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return RetryableError(f"{self._path}: {reason}; no process listens there; start `llmspan sidecar`")
        return RetryableError(f"{self._path}: {reason}")

    def _wire_error(self, error: ProtocolError) -> LlmspanError:
        message = f"{self._path}: {error}"
        if error.code == "unsupported_version":
            return SchemaError(f"{message}; upgrade llmspan at the older end")
        if error.code == "not_allowed":
            return self._wrong(f"{error}")
        if error.retry_after is not None:
            return ThrottledError(message, error.retry_after)
        if error.is_reported:
            return RetryableError(message)
        return self._wrong(f"the process that listens there does not use protocol v{VERSION}: {error}")

    def _wrong(self, reason: str) -> RefusedError:
        return RefusedError(f"LLMSPAN_SOCKET={self._path}: {reason}")

    def after_fork_in_child(self) -> None:
        """The connection stays the parent's; the child makes its own."""
        self._lock = Lock()
        self._safe = set()
        self._hang_up()


def _encode(item: StoredItem) -> bytes:
    return encode_span(item) if isinstance(item, SpanRecord) else encode_record(item)


_backends: Final = ForkGroup["SocketBackend"]()
