"""The ``options`` of a DSN, such as ``-csearch_path=traces``, behind a pooler that refuses them or leaves them out.

A pooler gives one session to several clients, so that it takes few settings from any. What the session does not have
from its start is set in each transaction instead, which every pooler leaves whole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import errors

from ...errors import RefusedError
from .errors import VARIABLE, one_line

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["UnreadableOptionError", "missing_settings", "parse_options"]

#: what the server takes for a word: a backslash makes the next character part of it
_WORD: Final = re.compile(r"(?:\\.|[^\\\s])+", re.DOTALL)
_SETTING: Final = re.compile(r"(?:-c ?|--)(?P<name>[^=]+)=(?P<value>.*)", re.DOTALL)
_OF_THE_START: Final = "SELECT lower(name) FROM pg_settings WHERE lower(name) = ANY(%s) AND source = 'client'"


class UnreadableOptionError(ValueError):
    """A word of the options that is not ``-c name=value`` or ``--name=value``."""


def parse_options(options: str) -> dict[str, str]:
    """The settings of ``options`` by their names, in small letters.

    Raises:
        UnreadableOptionError: there is something else in them.
    """
    words = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in _WORD.findall(options)]
    settings: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word += f" {words.pop(0)}"
        match = _SETTING.fullmatch(word)
        if match is None:
            raise UnreadableOptionError(word)
        settings[match["name"].replace("-", "_").lower()] = match["value"]
    return settings


def missing_settings(connection: Connection, refused: str | None, where: str) -> dict[str, str]:
    """The settings of the options, ``refused`` ones or those sent, that the session does not have from its start.

    Raises:
        RefusedError: what the options ask for cannot be set in a transaction.
    """
    try:
        settings = parse_options(connection.info.options if refused is None else refused)
    except UnreadableOptionError as error:
        if refused is None:
            return {}  # the server has taken them
        raise _refusal(f"the pooler does not let the option {str(error)!r} pass", where) from error
    if not settings:
        return {}
    try:
        at_start = connection.execute(_OF_THE_START, [[*settings]]).fetchall()
        missing = {name: value for name, value in settings.items() if (name,) not in at_start}
        for name, value in missing.items():
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
    except (psycopg.DataError, psycopg.ProgrammingError, errors.CantChangeRuntimeParam) as error:
        raise _refusal(
            f"the pooler does not let options pass, and setting them failed: {one_line(error)}", where
        ) from error
    return missing


def _refusal(reason: str, where: str) -> RefusedError:
    return RefusedError(f"{VARIABLE}={where}: {reason}; leave it out of the options, or name the server itself")
