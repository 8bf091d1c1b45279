"""What Postgres, libpq or a pooler between us says, as the one of our errors that says what to do about it.

A state has a code once a server has answered; before that there is nothing but libpq's text. No message has a password
in it, or a value of a record.
"""

from __future__ import annotations

import re
from typing import Final

import psycopg

from ...errors import LlmspanError, PermanentError, RefusedError, RetryableError, SchemaError, SettingsError

__all__ = [
    "VARIABLE", "HangingError", "WrongSchemaError", "from_connect", "from_statement", "is_lost", "one_line",
    "takes_no_options",
]  # fmt: skip

VARIABLE: Final = "LLMSPAN_POSTGRES_DSN"


class WrongSchemaError(RetryableError):
    """A table, column or function is not there, or not as we know it: look at the schema before the next try."""


class HangingError(psycopg.OperationalError):
    """The server has not answered in time."""


#: what libpq says, before it connects, of options that it parses only then
_UNREADABLE: Final = r"^(?!.*\bFATAL\b).*(invalid .* value|invalid connection option)"
#: PgBouncer before 1.20, and since; Neon and Supabase say the same
_TAKES_NO_OPTIONS: Final = r"unsupported (startup parameter:? (in )?options|options startup parameter)"
#: What a server, a pooler or libpq says, in English, when an operator has to act. Without a match the remedy is
#: missing.
_REFUSALS: Final = {
    r"authentication failed|auth failed|no password supplied|wrong password": "give the right user and password",
    r'database ".*" does not exist|no such database': "make the database, or name another",
    r'role ".*" does not exist|no such user': "make the role, or name another",
    r"no pg_hba.conf entry|pg_hba.conf rejects": "let this host, user and database in, in the server's pg_hba.conf",
    r"permission denied for database": "GRANT CONNECT on the database to the user, or name another",
    r"is not permitted to log in": "let the role log in, or name another",
    r"unsupported startup parameter": "leave it out of the DSN, or allow it in the pooler",
    r"does not support SSL|SSL required|TLS connection required|certificate": "see sslmode and its certificates",
}
_STATEMENT_POOLING: Final = "statement pooling mode"


def takes_no_options(error: psycopg.Error) -> bool:
    """Whether a pooler refuses a connection for its ``options``."""
    return re.search(_TAKES_NO_OPTIONS, one_line(error), re.IGNORECASE) is not None


def from_connect(error: psycopg.Error, server: str) -> LlmspanError:
    """The one of our errors that says what to do about ``error``, which came instead of a connection."""
    message = one_line(error)
    if re.search(_UNREADABLE, message):
        return SettingsError(f"{VARIABLE}={server}: {message}; write the DSN as libpq takes it")
    for pattern, remedy in _REFUSALS.items():
        if re.search(pattern, message, re.IGNORECASE):
            return RefusedError(f"{VARIABLE}={server}: {message}; {remedy}")
    if isinstance(error, psycopg.ProgrammingError):
        return SettingsError(f"{VARIABLE}={server}: {message}")
    return RetryableError(f"Postgres at {server} cannot be reached: {message}")


def from_statement(error: psycopg.Error, server: str) -> LlmspanError:
    """The one of our errors that says what to do about ``error``; decided by the class of its SQLSTATE."""
    state = error.sqlstate or ""
    message = f"Postgres at {server}: {one_line(error)}"
    if _STATEMENT_POOLING in message:
        return RefusedError(
            f"{message}; a batch is one transaction: set pool_mode to transaction or session for this database in the"
            f" pooler, or name another in {VARIABLE}"
        )
    if not state:
        return PermanentError(message) if isinstance(error, psycopg.DataError) else RetryableError(message)
    if state == "42501" or state[:2] == "28":
        return RefusedError(f"{message}; grant it to the user of {VARIABLE}, see docs/postgres.md")
    if _of_the_schema(error, state):
        return WrongSchemaError(f"{message} ({state})")
    if state[:2] in _PERMANENT:
        return PermanentError(f"{message} ({state})")
    if state[:2] == "42":
        return SchemaError(f"{message} ({state})")
    return RetryableError(f"{message} ({state})")


#: bad data, a broken constraint, a limit of the server's; an exception of a trigger of the user's
_PERMANENT: Final = ("22", "23", "54", "P0", "44")
#: undefined: table, schema, column, function; a prepared plan that a changed table made void
_SCHEMA_STATES: Final = ("42P01", "3F000", "42703", "42883", "0A000")


def _of_the_schema(error: psycopg.Error, state: str) -> bool:
    # A row that no partition takes breaks a constraint, too, but one without a name.
    return state in _SCHEMA_STATES or (state == "23514" and not error.diag.constraint_name)


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, so that another one may do."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not isinstance(
            error, HangingError
        )
    return state[:2] == "08" or state[:4] == "57P0"


def one_line(error: psycopg.Error) -> str:
    """The message, without what quotes a value."""
    message = error.diag.message_primary or str(error) or type(error).__name__
    # The rest of the context quotes the value.
    column = re.search(r"COPY \w+, line \d+, column (\w+)", error.diag.context or "")
    return " ".join(f"{message}{f' in {column[1]}' if column else ''}".split())
