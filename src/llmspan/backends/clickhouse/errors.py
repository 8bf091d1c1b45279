"""What ClickHouse and its driver say went wrong, in our errors: by the server's code, never by its words.

An unknown code is attributed to the records, so that one of them cannot block all others forever; the lack
of any code is the fault of the way there.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from ...errors import (
    BackendError,
    LlmspanError,
    NoTablesError,
    PermanentError,
    RefusedError,
    RetryableError,
    SchemaError,
    ThrottledError,
)
from ..driver_errors import credentials_mask
from .driver import exceptions
from .dsn import ClickHouseDsn

__all__ = ["MissingError", "translate_errors"]

#: How long to leave a server alone that says that it has too much to do, in seconds.
_PAUSE: Final = 2.0

# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_BUSY: Final = frozenset({202, 252, 745})  # too many queries at once, too many parts, server overloaded
#: out of time, memory, disk or threads; no replica, no quorum, no Keeper; cancelled by hand or by a shutdown
_PASSING: Final = frozenset({159, 160, 203, 209, 210, 236, 241, 242, 243, 279, 285, 286, 319, 394, 425, 439, 473, 999})
_MISSING: Final = frozenset({60, 81})  # table, database
_OTHER_SCHEMA: Final = frozenset({8, 10, 16, 47})  # a column that is not there
_WHO: Final = frozenset({192, 193, 194, 516})  # user or password
_NOT_ALLOWED: Final = frozenset({164, 452, 497})  # read-only, constrained setting, no grant

#: what a proxy says of one request, whoever sends it
_TOO_LARGE: Final = frozenset({413, 414, 431})

_STATUS: Final = re.compile(r"HTTP status (\d{3})")
_VERSION: Final = re.compile(r"\s*\(version [^()]*(\([^()]*\))?\)\s*$")


class MissingError(NoTablesError):
    """There is no such table, or no such database."""


@contextmanager
def translate_errors(dsn: ClickHouseDsn) -> Generator[None]:
    """What the driver raises inside the block, in our errors."""
    try:
        yield
    except LlmspanError:
        raise
    except exceptions().Error as error:
        raise _ours(dsn, error) from error
    except UnicodeEncodeError as error:
        raise PermanentError(f"ClickHouse {dsn.location}: {error}") from error
    except OSError as error:
        raise RetryableError(f"ClickHouse {dsn.location}: {error.strerror or error}") from error


def _ours(dsn: ClickHouseDsn, error: Any) -> BackendError | RefusedError:
    reason = _reason(str(error), dsn)
    where = f"ClickHouse {dsn.location}"
    if error.code is None:
        return _without_code(dsn, error, where, reason)
    if error.code in _WHO:
        return _setting(dsn, f"user {dsn.user or 'default'} cannot log in; check user and password")
    if error.code in _NOT_ALLOWED:
        return _setting(dsn, f"user {dsn.user or 'default'} may not ({reason}); grant it, or name another user")
    if error.code in _MISSING:
        return MissingError(f"{where}: {reason}; make it with `llmspan migrate --backend clickhouse`")
    if error.code in _OTHER_SCHEMA:
        return SchemaError(f"{where}: {reason}; bring it up to date with `llmspan migrate --backend clickhouse`")
    if error.code in _BUSY:
        return ThrottledError(f"{where}: {reason}", _PAUSE)
    if error.code in _PASSING:
        return RetryableError(f"{where}: {reason}")
    return PermanentError(f"{where}: {reason}")


def _without_code(dsn: ClickHouseDsn, error: Any, where: str, reason: str) -> BackendError | RefusedError:
    match = _STATUS.search(str(error))
    status = int(match[1]) if match else 0
    if status == 429:
        return ThrottledError(f"{where}: {reason}", _PAUSE)
    if status in (401, 403):
        return _setting(dsn, f"user {dsn.user or 'default'} cannot log in ({reason}); check user and password")
    if status in (301, 302, 307, 308, 404):
        return _setting(dsn, f"the server there is not ClickHouse ({reason}); name its HTTP port")
    if isinstance(error, exceptions().DataError | exceptions().ProgrammingError) or status in _TOO_LARGE:
        return PermanentError(f"{where}: {reason}")
    if 400 <= status < 500:  # a proxy, or HTTP where TLS is spoken: ClickHouse itself gives a code
        return _setting(dsn, f"the server there is not ClickHouse ({reason}); name its HTTP port, https:// for TLS")
    return RetryableError(f"{where}: {reason}")


def _setting(dsn: ClickHouseDsn, reason: str) -> RefusedError:
    return RefusedError(f"LLMSPAN_CLICKHOUSE_DSN={dsn.location}: {reason}")


def _reason(text: str, dsn: ClickHouseDsn) -> str:
    """The first line, less what is said otherwise: the server's version, the URL, and in no case the password."""
    text = credentials_mask((dsn.password,), dsn.location)(text)  # first: nothing finds a part of it
    text = text.partition(" (for url ")[0]
    return _VERSION.sub("", text.strip().partition("\n")[0]).removesuffix(".")[:500]
