"""Every exception llmspan raises on purpose.

    LlmspanError
    ├── SettingsError        a setting (environment variable or argument) is wrong; reported at start
    │   ├── RefusedError         ... or the store that it names refuses us as it is now; that may be put right there
    │   └── QueryError           a filter or a group cannot be: no such key, no such value, or not on this backend
    ├── RecordError          bytes or rows that should be a record are not one
    └── BackendError         a trace backend could not do what was asked
        ├── PermanentError   the same write will never succeed: set the record aside
        ├── RetryableError   the same write may succeed later: keep the record, try again
        │   └── ThrottledError   ... and the backend said when
        └── SchemaError      the store's schema is not one this version can use
            ├── NoTablesError    ... as it has none of ours yet
            └── WrongFileError   ... and the store is a local file

Nothing here is ever raised into a provider call: see ``_guard``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = [
    "BackendError",
    "LlmspanError",
    "NoTablesError",
    "PermanentError",
    "QueryError",
    "RecordError",
    "RefusedError",
    "RetryableError",
    "SchemaError",
    "SettingsError",
    "ThrottledError",
    "WrongFileError",
    "shorten_traceback",
]

P = ParamSpec("P")
T = TypeVar("T")


class LlmspanError(Exception):
    """Base of all exceptions of this package."""


class SettingsError(LlmspanError, ValueError):
    """A setting is wrong. The message names the setting, its value and what would be right."""


class RefusedError(SettingsError):
    """A store that a setting names refuses us as it is now: wrong password, missing database, no right.

    The setting can be read, and the store may be put right without the program: it is tried again, never an error at
    start.
    """


class QueryError(SettingsError):
    """A filter or a group cannot be. The message names the part that is wrong, where it is, and what would be right.

    ``token`` is that part, and ``position`` where it begins, counted in characters from 1, if it was part of a text.
    """

    def __init__(self, message: str, token: str = "", position: int | None = None) -> None:
        where = f"{token}: " if token else ""
        super().__init__(f"{where}{message}" + ("" if position is None else f" (character {position})"))
        self.token = token
        self.position = position


class RecordError(LlmspanError, ValueError):
    """Input that should be a provider trace is not one. The message names the key or the place."""


class BackendError(LlmspanError):
    """A trace backend failed."""


class PermanentError(BackendError):
    """Writing the same records again cannot succeed."""


class RetryableError(BackendError):
    """Writing the same records later may succeed (connection lost, database locked)."""


class ThrottledError(RetryableError):
    """The backend asked for a pause of ``delay`` seconds before the next try."""

    def __init__(self, message: str, delay: float) -> None:
        super().__init__(message)
        self.delay = delay


class SchemaError(BackendError):
    """The store was made by a newer llmspan, or is not an llmspan store at all."""


class NoTablesError(SchemaError):
    """Nothing of ours is in the store yet: no table, or no database."""


class WrongFileError(SchemaError):
    """A local file is not ours, or was made by a newer llmspan. Whoever starts the program can name another."""


def shorten_traceback(function: Callable[P, T]) -> Callable[P, T]:
    """Have a public function raise a ``SettingsError`` without the frames below it, so the caller's line stands out.

    The message says what is wrong and where it was set. How we read it, and which exception that was found by, is of no
    use to who has to correct it.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except SettingsError as error:
            raise error.with_traceback(None) from None

    return call
