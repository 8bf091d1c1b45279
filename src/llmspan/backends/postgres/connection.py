"""Connections to Postgres, and transactions on them.

One thread has a connection at a time. A connection that is lost is replaced, one that a fork brought along is left
alone, and no server, however silent, holds a thread for longer than the timeout. No message has a password in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final, LiteralString, TypeVar
from urllib.parse import quote

import psycopg
from psycopg import conninfo, pq, sql
from psycopg.rows import TupleRow
from psycopg.types.string import TextBinaryLoader, TextLoader

from ..._clock import monotonic
from ..._fork import ForkGroup
from ..._native import Lock
from ...errors import SettingsError
from ..driver_errors import masked_errors
from ..driver_logs import quiet
from .errors import VARIABLE, HangingError, from_connect, from_statement, is_lost, takes_no_options
from .options import missing_settings

__all__ = ["Connection", "PostgresConnection", "location", "parse_dsn", "transaction", "with_settings"]

T = TypeVar("T")

_URI: Final = re.compile(r"postgres(ql)?://")
#: in the languages of libpq
_QUOTATION: Final = re.compile("[\"'`\u00ab\u00bb\u2018-\u201f\u2039\u203a\u300c\u300e]")
#: seconds after which the server should have given up by itself, and has not
_GRACE: Final = 5.0
_CREDENTIALS: Final = ("password", "sslpassword", "oauth_client_secret")
_DEFAULTS: Final = {
    "fallback_application_name": "llmspan",
    "connect_timeout": "10",
    "client_encoding": "utf8",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


class Connection(psycopg.Connection[TupleRow]):
    """A connection whose waits end at ``deadline`` (``monotonic``), whatever the server does."""

    deadline: float | None = None
    #: what the DSN's options set and the session has not: a pooler is between us, and each transaction sets it
    settings: Mapping[str, str] = MappingProxyType({})

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Run a generator of the driver's until it is done or the deadline has passed."""
        return super().wait(gen if self.deadline is None else self._until(gen, self.deadline), *args, **kwargs)

    def _until(self, gen: Generator[Any, Any, T], deadline: float) -> Generator[Any, Any, T]:
        try:
            awaited = next(gen)
            while True:
                ready = yield awaited
                if not ready and monotonic() > deadline:
                    raise HangingError("the server did not answer in time")
                awaited = gen.send(ready)
        except StopIteration as end:
            return end.value


class PostgresConnection:
    """One connection, made at its first use, and the lock that gives it to one thread at a time."""

    def __init__(self, parameters: Mapping[str, str], timeout: float, *, writes: bool) -> None:
        """``parameters``: as of :func:`parse_dsn`; ``timeout``: of the server for its client, in seconds, 0 is none."""
        self._options = _options(parameters, timeout, writes=writes)
        self._location = location(parameters)
        self._credentials = {parameters[key] for key in _CREDENTIALS if key in parameters}
        #: the DSN's options, where a pooler has refused them
        self._refused_options: str | None = None
        self._connection: Connection | None = None
        self._lock = Lock()
        _handles.add(self)

    def run(self, function: Callable[[Connection], T]) -> T:
        """``function`` of the connection; again, on a new one, if the connection turns out to have been lost before.

        Raises:
            SettingsError: the DSN has an option that libpq cannot read.
            RefusedError: the server refuses us.
            RetryableError: it is not there, or went away.
            PermanentError: it refuses what we sent.
        """
        with self._lock, masked_errors(self._credentials, self._location), quiet():
            fresh = self._connection is None
            try:
                return self._once(function)
            except psycopg.OperationalError as error:
                if fresh or not is_lost(error):
                    raise from_statement(error, self._location) from error
            except psycopg.Error as error:
                raise from_statement(error, self._location) from error
            try:
                return self._once(function)
            except psycopg.Error as error:
                raise from_statement(error, self._location) from error

    @property
    def is_in_use(self) -> bool:
        """Whether a thread has it now."""
        return self._lock.locked()

    def cancel(self) -> None:
        """Ask the server to end the statement that is running, in whatever thread."""
        connection = self._connection
        if connection is not None:
            with suppress(psycopg.Error), quiet():
                connection.cancel_safe(timeout=_GRACE)

    def close(self) -> None:
        """Release the connection; the next use makes another."""
        with self._lock:
            self._close()

    def _once(self, function: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._connect()
        try:
            return function(self._connection)
        except psycopg.Error as error:
            is_unusable = self._connection.broken or is_lost(error) or isinstance(error, HangingError)
            if is_unusable or error.sqlstate == "25006":  # read only: another server may take writes
                self._close()
            raise
        except BaseException:
            if self._connection.info.transaction_status != pq.TransactionStatus.IDLE:
                self._close()
            raise

    def _connect(self) -> Connection:
        try:
            connection = _connect(self._options)
        except psycopg.Error as error:
            tried = error.pgconn.options.decode() if error.pgconn is not None else ""
            self._note_password(error.pgconn)
            if not (tried and takes_no_options(error)) or self._refused_options is not None:
                raise from_connect(error, self._location) from error
            self._refused_options = tried
            self._options["options"] = ""  # also instead of those of PGOPTIONS or a service file
            return self._connect()
        self._note_password(connection.pgconn)
        try:
            connection.settings = missing_settings(connection, self._refused_options, self._location)
        except BaseException:
            connection.close()
            raise
        return connection

    def _note_password(self, pgconn: pq.abc.PGconn | None) -> None:
        """The password may also be from PGPASSWORD, a password file or a service."""
        if pgconn is not None and pgconn.password:
            self._credentials.add(pgconn.password.decode("utf-8", "surrogateescape"))

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connection: the next use makes one of our own."""
        self._lock = Lock()
        connection, self._connection = self._connection, None
        if connection is not None:
            _leave_to_the_parent(connection)


@contextmanager
def transaction(
    connection: Connection, timeout: float | None, mode: str = "", further: LiteralString | None = None
) -> Generator[None]:
    """All statements of the block or none, each in ``timeout`` seconds; 0 is no limit, None what the session has.

    Limits and settings are set in the transaction, not in the session: a pooler between us may give both away.
    """
    connection.deadline = monotonic() + timeout + _GRACE if timeout else None
    try:
        connection.execute(_begin(connection, timeout, mode, further))
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(psycopg.Error):
            if not connection.broken:
                connection.execute("ROLLBACK")
        raise
    finally:
        connection.deadline = None


@contextmanager
def with_settings(connection: Connection, further: LiteralString | None = None) -> Generator[None]:
    """Read with what the DSN's options set: in a transaction, if the session does not have it.

    ``further``: calls of ``set_config`` that come after those.
    """
    if not connection.settings and not further:
        yield
        return
    with transaction(connection, None, "READ ONLY", further):
        yield


def _begin(connection: Connection, timeout: float | None, mode: str, further: LiteralString | None) -> sql.Composed:
    settings = dict(connection.settings)
    if timeout is not None:
        settings["statement_timeout"] = f"{round(timeout * 1000):d}"
    calls: list[sql.Composable] = [
        sql.SQL("set_config({}, {}, true)").format(name, value) for name, value in settings.items()
    ]
    calls += [] if further is None else [sql.SQL(further)]
    return sql.SQL("BEGIN {}; SELECT {}").format(sql.SQL(mode), sql.SQL(", ").join(calls))  # pyright: ignore[reportArgumentType]


# -- the DSN


def parse_dsn(dsn: str | None, source: str = VARIABLE) -> dict[str, str]:
    """The parameters that a DSN gives; ``source`` is what gave it, for the error.

    Raises:
        SettingsError: libpq cannot read it; the message shows nothing of what was in quotes.
    """
    try:
        parsed = conninfo.conninfo_to_dict(dsn or "")
    except psycopg.Error as error:
        # libpq quotes what it could not read, which may be a piece of the password, with quotation marks of its own.
        reason = _QUOTATION.split(str(error).strip().replace('"="', "="), maxsplit=1)[0].strip(" :")
    else:
        parameters = {key: str(value) for key, value in parsed.items() if value is not None}
        reason = _torn(parameters) if _URI.match(dsn or "") else None
        if reason is None:
            return parameters
    raise SettingsError(
        f"{source} cannot be read: {reason}; expected postgresql://user:password@host:5432/database, with special"
        " characters written as %40, or key=value words"
    )


def _torn(parameters: Mapping[str, str]) -> str | None:
    """A password with a special character in it ends early, and its rest is taken for the place."""
    if any("@" in parameters.get(key, "") for key in ("host", "dbname")):
        return "there is an @ in the host or the database"
    if not re.fullmatch(r"[0-9,]*", parameters.get("port", "")):
        return "the port is not a number"
    return None


def location(parameters: Mapping[str, str]) -> str:
    """Where ``parameters`` lead, for people: a URI with the defaults filled in, and never a password."""
    default = {
        option.keyword.decode(): option.val.decode()
        for option in pq.Conninfo.get_defaults()
        if option.val and option.keyword in (b"host", b"hostaddr", b"port", b"user", b"dbname", b"service")
    }
    effective = {**default, **parameters}
    if service := effective.get("service"):
        return f"postgresql://?service={quote(service)}"
    host = effective.get("host") or effective.get("hostaddr") or "localhost"
    user = effective.get("user", "")
    where = f"{quote(host, safe=',[]:' if ':' in host else ',')}:{effective.get('port', '5432')}"
    options = f"?options={quote(effective['options'])}" if effective.get("options") else ""
    return f"postgresql://{quote(user)}@{where}/{quote(effective.get('dbname') or user)}{options}"


def _options(parameters: Mapping[str, str], timeout: float, *, writes: bool) -> dict[str, str]:
    options = _DEFAULTS | ({"tcp_user_timeout": f"{(timeout + _GRACE) * 1000:.0f}"} if timeout else {})
    if writes and "," in parameters.get("host", parameters.get("hostaddr", "")):
        options["target_session_attrs"] = "read-write"  # of several servers, the one that takes writes now
    return {**options, **parameters}


def _connect(options: Mapping[str, Any]) -> Connection:
    # Prepared statements are of a session, which a pooler between us may give to others.
    connection = Connection.connect(**options, autocommit=True, prepare_threshold=None)
    for name in ("json", "jsonb"):
        connection.adapters.register_loader(name, TextLoader)
        connection.adapters.register_loader(name, TextBinaryLoader)
    return connection


# -- forks

_handles: Final = ForkGroup["PostgresConnection"]()
_inherited: Final[list[Connection]] = []


def _leave_to_the_parent(connection: Connection) -> None:
    # Closing would terminate the parent's session, so the socket is replaced without a protocol message: the server
    # notices when the parent dies. The object is kept, as its finalizer would close the same number a second time.
    _inherited.append(connection)
    with suppress(psycopg.Error, OSError):
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nowhere, connection.fileno(), inheritable=False)
        os.close(nowhere)
