"""Connections to Postgres, and what Postgres says in our errors. The one place that imports psycopg.

One thread has a connection at a time. A connection that is lost is replaced, one that a fork brought along is left
alone, and no server, however silent, holds a thread for longer than the timeout. No message has a password in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from urllib.parse import quote
from weakref import WeakValueDictionary

import psycopg
from psycopg import conninfo, pq
from psycopg.rows import TupleRow
from psycopg.types.string import TextBinaryLoader, TextLoader

from .._clock import monotonic
from .._native import Lock
from ..errors import LlmspanError, PermanentError, RefusedError, RetryableError, SchemaError, SettingsError

__all__ = ["Connection", "Handle", "WrongSchemaError", "location", "parse", "transaction", "translated"]

T = TypeVar("T")

_URI: Final = re.compile(r"postgres(ql)?://")
#: in the languages of libpq
_QUOTATION: Final = re.compile("[\"'`\u00ab\u00bb\u2018-\u201f\u2039\u203a\u300c\u300e]")
_VARIABLE: Final = "LLMSPAN_POSTGRES_DSN"
#: seconds after which the server should have given up by itself, and has not
_GRACE: Final = 5.0
_DEFAULTS: Final = {
    "fallback_application_name": "llmspan",
    "connect_timeout": "10",
    "client_encoding": "utf8",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


class WrongSchemaError(RetryableError):
    """A table, column or function is not there, or not as we know it: look at the schema before the next try."""


class _HangingError(psycopg.OperationalError):
    """The server has not answered in time."""


class Connection(psycopg.Connection[TupleRow]):
    """A connection whose waits end at ``deadline`` (``monotonic``), whatever the server does."""

    deadline: float | None = None

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Run a generator of the driver's until it is done or the deadline has passed."""
        return super().wait(gen if self.deadline is None else self._until(gen, self.deadline), *args, **kwargs)

    def _until(self, gen: Generator[Any, Any, T], deadline: float) -> Generator[Any, Any, T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and monotonic() > deadline:
                    raise _HangingError("the server did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


class Handle:
    """One connection, made at its first use, and the lock that gives it to one thread at a time."""

    def __init__(self, given: Mapping[str, str], timeout: float, *, writes: bool) -> None:
        """``given``: what :func:`parse` returned; ``timeout``: of the server for its client, in seconds, 0 is none."""
        self._options = _options(given, timeout, writes=writes)
        self._place = location(given)
        self._connection: Connection | None = None
        self._lock = Lock()
        _handles[id(self)] = self

    def run(self, function: Callable[[Connection], T]) -> T:
        """``function`` of the connection; again, on a new one, if the connection turns out to have been lost before.

        Raises:
            SettingsError: the DSN has an option that libpq cannot read.
            RefusedError: the server refuses us.
            RetryableError: it is not there, or went away.
            PermanentError: it refuses what we sent.
        """
        with self._lock:
            fresh = self._connection is None
            try:
                return self._once(function)
            except psycopg.OperationalError as error:
                if fresh or not _lost(error):
                    raise translated(error, self._place) from error
            except psycopg.Error as error:
                raise translated(error, self._place) from error
            try:
                return self._once(function)
            except psycopg.Error as error:
                raise translated(error, self._place) from error

    def close(self) -> None:
        """Release the connection; the next use makes another."""
        with self._lock:
            self._close()

    def _once(self, function: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = _connect(self._options, self._place)
        try:
            return function(self._connection)
        except psycopg.Error as error:
            if self._connection.broken or _lost(error) or error.sqlstate == "25006" or isinstance(error, _HangingError):
                self._close()
            raise
        except BaseException:
            if self._connection.info.transaction_status != pq.TransactionStatus.IDLE:
                self._close()
            raise

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
def transaction(connection: Connection, timeout: float, mode: str = "") -> Generator[None]:
    """All statements of the block or none, each in ``timeout`` seconds; 0 is no limit.

    The limit is told the server in the transaction, not in the session: a pooler between us may give both away.
    """
    connection.deadline = monotonic() + timeout + _GRACE if timeout else None
    connection.execute(f"BEGIN {mode}; SET LOCAL statement_timeout = {round(timeout * 1000):d}")  # pyright: ignore[reportCallIssue, reportArgumentType]
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(psycopg.Error):
            if not connection.broken:
                connection.execute("ROLLBACK")
        raise
    finally:
        connection.deadline = None


# -- the DSN


def parse(dsn: str | None, named: str = _VARIABLE) -> dict[str, str]:
    """The parameters that a DSN gives; ``named`` is what gave it, for the error.

    Raises:
        SettingsError: libpq cannot read it; the message shows nothing of what was in quotes.
    """
    try:
        found = conninfo.conninfo_to_dict(dsn or "")
    except psycopg.Error as error:
        # libpq quotes what it could not read, which may be a piece of the password, with quotation marks of its own.
        reason = _QUOTATION.split(str(error).strip().replace('"="', "="), maxsplit=1)[0].strip(" :")
    else:
        given = {key: str(value) for key, value in found.items() if value is not None}
        reason = _torn(given) if _URI.match(dsn or "") else None
        if reason is None:
            return given
    raise SettingsError(
        f"{named} cannot be read: {reason}; expected postgresql://user:password@host:5432/database, with special"
        " characters written as %40, or key=value words"
    )


def _torn(given: Mapping[str, str]) -> str | None:
    """A password with a special character in it ends early, and its rest is taken for the place."""
    if any("@" in given.get(key, "") for key in ("host", "dbname")):
        return "there is an @ in the host or the database"
    if not re.fullmatch(r"[0-9,]*", given.get("port", "")):
        return "the port is not a number"
    return None


def location(given: Mapping[str, str]) -> str:
    """Where ``given`` leads, for people: a URI with the defaults filled in, and never a password."""
    default = {
        option.keyword.decode(): option.val.decode()
        for option in pq.Conninfo.get_defaults()
        if option.val and option.keyword in (b"host", b"hostaddr", b"port", b"user", b"dbname", b"service")
    }
    found = {**default, **given}
    if service := found.get("service"):
        return f"postgresql://?service={quote(service)}"
    host = found.get("host") or found.get("hostaddr") or "localhost"
    user = found.get("user", "")
    where = f"{quote(host, safe=',[]:' if ':' in host else ',')}:{found.get('port', '5432')}"
    options = f"?options={quote(found['options'])}" if found.get("options") else ""
    return f"postgresql://{quote(user)}@{where}/{quote(found.get('dbname') or user)}{options}"


def _options(given: Mapping[str, str], timeout: float, *, writes: bool) -> dict[str, str]:
    options = _DEFAULTS | ({"tcp_user_timeout": f"{(timeout + _GRACE) * 1000:.0f}"} if timeout else {})
    if writes and "," in given.get("host", given.get("hostaddr", "")):
        options["target_session_attrs"] = "read-write"  # of several servers, the one that takes writes now
    return {**options, **given}


def _connect(options: Mapping[str, Any], place: str) -> Connection:
    try:
        # Prepared statements are of a session, which a pooler between us may give to others.
        connection = Connection.connect(**options, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise _connect_error(error, place) from error
    for name in ("json", "jsonb"):
        connection.adapters.register_loader(name, TextLoader)
        connection.adapters.register_loader(name, TextBinaryLoader)
    return connection


# -- what Postgres says

#: what libpq says, before it connects, of options that it parses only then
_UNREADABLE: Final = r"^(?!.*\bFATAL\b).*(invalid .* value|invalid connection option)"
#: What a server or libpq says, in English, when somebody has to do something. Without a match the remedy is missing.
_REFUSALS: Final = {
    r"password authentication failed|authentication failed|no password supplied": "give the right user and password",
    r'database ".*" does not exist': "make the database, or name another",
    r'role ".*" does not exist': "make the role, or name another",
    r"no pg_hba.conf entry|pg_hba.conf rejects": "let this host, user and database in, in the server's pg_hba.conf",
    r"permission denied for database": "GRANT CONNECT on the database to the user, or name another",
    r"is not permitted to log in": "let the role log in, or name another",
    r"unsupported startup parameter": "leave it out of the DSN, or allow it in the pooler",
    r"does not support SSL|certificate|unsupported certificate": "see sslmode and its certificates",
}


def _connect_error(error: psycopg.Error, place: str) -> LlmspanError:
    said = _one_line(error)
    if re.search(_UNREADABLE, said):
        return SettingsError(f"{_VARIABLE}={place}: {said}; write the DSN as libpq takes it")
    for pattern, remedy in _REFUSALS.items():
        if re.search(pattern, said):
            return RefusedError(f"{_VARIABLE}={place}: {said}; {remedy}")
    if isinstance(error, psycopg.ProgrammingError):
        return SettingsError(f"{_VARIABLE}={place}: {said}")
    return RetryableError(f"Postgres at {place} cannot be reached: {said}")


def translated(error: psycopg.Error, place: str) -> LlmspanError:
    """The one of our errors that says what to do about ``error``; decided by the class of its SQLSTATE."""
    state = error.sqlstate or ""
    said = f"Postgres at {place}: {_one_line(error)}"
    if not state:
        return PermanentError(said) if isinstance(error, psycopg.DataError) else RetryableError(said)
    if state == "42501" or state[:2] == "28":
        return RefusedError(f"{said}; grant it to the user of {_VARIABLE}, see docs/postgres.md")
    if _of_the_schema(error, state):
        return WrongSchemaError(f"{said} ({state})")
    if state[:2] in _PERMANENT:
        return PermanentError(f"{said} ({state})")
    if state[:2] == "42":
        return SchemaError(f"{said} ({state})")
    return RetryableError(f"{said} ({state})")


#: bad data, a broken constraint, a limit of the server's; an exception of a trigger of the user's
_PERMANENT: Final = ("22", "23", "54", "P0", "44")
#: undefined: table, schema, column, function; a prepared plan that a changed table made void
_SCHEMA_STATES: Final = ("42P01", "3F000", "42703", "42883", "0A000")


def _of_the_schema(error: psycopg.Error, state: str) -> bool:
    # A row that no partition takes breaks a constraint, too, but one without a name.
    return state in _SCHEMA_STATES or (state == "23514" and not error.diag.constraint_name)


def _lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, so that another one may do."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not isinstance(
            error, _HangingError
        )
    return state[:2] == "08" or state[:4] == "57P0"


def _one_line(error: psycopg.Error) -> str:
    said = error.diag.message_primary or str(error) or type(error).__name__
    # The rest of the context quotes the value.
    column = re.search(r"COPY \w+, line \d+, column (\w+)", error.diag.context or "")
    return " ".join(f"{said}{f' in {column[1]}' if column else ''}".split())


# -- forks

_handles: Final[WeakValueDictionary[int, Handle]] = WeakValueDictionary()
_inherited: Final[list[Connection]] = []


def _alive() -> Iterator[Handle]:
    return (handle for reference in _handles.valuerefs() if (handle := reference()) is not None)


def _leave_to_the_parent(connection: Connection) -> None:
    # Closing it would say goodbye in the parent's name. Its socket is let go of without a word, so that the server
    # notices when the parent dies, and the object is kept, so that nobody closes that number a second time.
    _inherited.append(connection)
    with suppress(psycopg.Error, OSError):
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nowhere, connection.fileno(), inheritable=False)
        os.close(nowhere)


def _after_fork_in_child() -> None:
    for handle in _alive():
        handle.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
