"""The driver's client: made at its first use, and once more after a fork.

Over HTTP one client serves all threads: it has no session, so that requests go side by side, and it has connections of
its own, which a forked child leaves to its parent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from ..._fork import ForkGroup
from ..._native import Lock
from ...errors import RetryableError, SchemaError
from ..driver_errors import masked_errors
from ..driver_logs import quiet
from ..rows import Cell
from .driver import exceptions, open_client
from .dsn import ClickHouseDsn
from .errors import translate_errors

if TYPE_CHECKING:
    from .deadline import Reads

__all__ = ["Client", "clients", "parameter", "quoted"]

#: The default from 25.6 on, and then not sent: FINAL does not keep a look-up from its index.
_READING: Final = {"use_skip_indexes_if_final": 1}
#: in seconds
_CONNECT_TIMEOUT: Final = 10
_LONGEST_SILENCE: Final = 3600
_KILL_TIMEOUT: Final = 5


def quoted(name: str) -> str:
    """``name`` as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def parameter(name: str, value: Cell) -> str:
    """How a parameter is written in a query; the server puts the value in."""
    kind = "Int64" if isinstance(value, int) else "Float64" if isinstance(value, float) else "String"
    return f"{{{name}:{kind}}}"


class Client:
    """A ClickHouse server, as far as this package talks to it."""

    def __init__(self, dsn: ClickHouseDsn, timeout: float) -> None:
        self.dsn = dsn
        self._timeout = timeout
        self._driver: Any = None
        self._types: dict[str, Any] = {}
        self._lock = Lock()
        self._opening = Lock()
        self._open = False
        self._reads: Reads | None = None
        clients.add(self)

    def version(self) -> str:
        """The server's version; connects if that is not done yet.

        Raises:
            SettingsError: the place cannot be used as configured.
            RetryableError: no server answers now.
        """
        with self._driven() as driver:
            return str(driver.server_version)

    def rows(self, sql: str, values: Mapping[str, Cell] | None = None) -> Sequence[dict[str, Any]]:
        """The answer to a query, each row by the names of its columns."""
        result = self._result(sql, values or {})
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    def tuples(self, sql: str, values: Mapping[str, Cell] | None = None) -> Sequence[Sequence[Any]]:
        """The answer to a query, each row with the values of its columns."""
        return self._result(sql, values or {}).result_rows

    def _result(self, sql: str, values: Mapping[str, Cell]) -> Any:
        with self._driven() as driver, self._cancellable(driver) as settings:
            return driver.query(sql, parameters=dict(values), settings={**_READING, **settings})

    def cancel(self) -> None:
        """End the queries that are running, in whatever threads."""
        reads = self._reads
        if reads is not None:
            reads.cancel()

    def limit_reads(self, seconds: float) -> None:
        """End each query by itself after ``seconds``, where :meth:`cancel` cannot."""

    @contextmanager
    def _cancellable(self, driver: Any) -> Generator[Mapping[str, Any]]:
        """The settings of a query that :meth:`cancel` ends: here by its connection, and then on the server."""
        from .deadline import deadline

        query_id, reads = f"{uuid4()}", self._reads
        assert reads is not None, "it is connected"
        is_cancelled: Callable[[], bool] = bool
        try:
            with reads.cancellable() as is_cancelled:
                yield {"query_id": query_id}
        finally:
            if is_cancelled():
                with suppress(exceptions().Error, OSError, RetryableError), deadline(_KILL_TIMEOUT, self.dsn.location):
                    driver.command("KILL QUERY WHERE query_id = {id:String} ASYNC", parameters={"id": query_id})

    def command(
        self, sql: str, values: Mapping[str, Cell] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run a statement that has no answer."""
        with self._driven() as driver:
            driver.command(sql, parameters=dict(values or {}), settings=dict(settings or {}))

    def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], settings: Mapping[str, Any]
    ) -> None:
        """Insert ``rows`` into ``table``, a quoted name; the types of its columns are asked for once."""
        with self._driven():
            pass  # connect first: the driver brings what the deadline needs
        with self._masked(), self._bounded(), self._driven() as driver:
            types = self._types.get(table) or self._described(driver, table, columns)
            driver.data_insert(
                driver.create_insert_context(
                    table, column_names=columns, column_types=types, data=rows, settings=dict(settings)
                )
            )

    @contextmanager
    def opening(self) -> Generator[bool]:
        """Look after the tables, one thread at a time. Gives whether that was done; when the block ends well it is."""
        with self._opening:
            yield self._open
            self._open = True

    def reopen(self) -> None:
        """The tables are not what they were: forget what is known of them."""
        self._open = False
        self._types = {}

    def close(self) -> None:
        """Release what is held; the next use connects again."""
        with self._lock:
            driver, self._driver = self._driver, None
            self.reopen()
            if driver is not None:
                driver.close()

    def before_fork(self) -> None:
        """Get ready for it."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone; the next use makes others."""
        self._lock = Lock()
        self._opening = Lock()
        self._driver = None
        self.reopen()

    @contextmanager
    def _driven(self) -> Generator[Any]:
        """The driver's client, connected, and its failures in our errors."""
        with self._masked(), translate_errors(self.dsn), quiet():
            yield self._connected()

    def _masked(self) -> AbstractContextManager[None]:
        """Errors without the DSN's password."""
        return masked_errors((self.dsn.password,), self.dsn.location)

    def _described(self, driver: Any, table: str, columns: Sequence[str]) -> Any:
        try:
            self._types[table] = driver.create_insert_context(table, column_names=columns).column_types
        except exceptions().ProgrammingError as error:
            raise SchemaError(f"ClickHouse {self.dsn.location}: {error}; the records are kept until it has") from error
        return self._types[table]

    def _bounded(self) -> AbstractContextManager[None]:
        """The time that a write may take; call it when connected."""
        from .deadline import deadline

        return deadline(self._timeout, f"ClickHouse {self.dsn.location}")

    def _connected(self) -> Any:
        with self._lock:
            if self._driver is None:
                self._driver = self._connect()
            from .deadline import choose_wait

            choose_wait()
            return self._driver

    def _connect(self) -> Any:
        dsn = self.dsn
        driver = open_client(
            dsn,
            interface=dsn.scheme,
            host=dsn.host,
            port=dsn.port,
            username=dsn.user,
            password=dsn.password or "",
            send_receive_timeout=math.ceil(self._timeout) or _LONGEST_SILENCE,
            query_retries=0,
            autogenerate_session_id=False,
            dedicated_pool=True,
            **{"connect_timeout": _CONNECT_TIMEOUT, "compress": "lz4", **dsn.options},
        )
        from .deadline import Reads, watch  # urllib3 comes with the driver

        watch(driver.http)
        self._reads = Reads()
        return driver


#: all clients of this process
clients: Final = ForkGroup["Client"]()
