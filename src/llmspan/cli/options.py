"""What the reading commands have in common: which store, which records, JSON or not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from .zone import utc_option, zoned

if TYPE_CHECKING:
    from ..backends.base import Backend, Filters
    from ..reader import Reader
    from ..settings import Settings

__all__ = [
    "DB_HELP",
    "SQLitePath",
    "as_json",
    "chosen_backends",
    "filters",
    "load",
    "nothing",
    "open_reader",
    "parse_time",
    "record_filters",
    "store",
    "where_option",
]

F = TypeVar("F", bound=Callable[..., Any])

#: a key, how it is compared, and values
_TERM: Final = re.compile(r"(\w+)(!?=)(.*)", re.DOTALL)
_COMMA: Final = re.compile(r"(?<!\\),")
DB_HELP: Final = "The SQLite file: LLMSPAN_SQLITE_PATH."
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class SQLitePath(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] - none in older versions of click
    """The path of a SQLite file, in each form that LLMSPAN_SQLITE_PATH takes; ``exists``: only of one that is there."""

    name = "path"

    def __init__(self, *, exists: bool = False) -> None:
        self._exists = exists

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The path as text."""
        from .._setting_values import BadValueError, sqlite_path

        try:
            path = str(sqlite_path(value))
        except BadValueError as error:
            self.fail(f"{error.shown or value}: {error}", param, ctx)
        except RuntimeError as error:  # `~nobody`, or a user without a home
            self.fail(f"{value}: {error}", param, ctx)
        if self._exists:
            click.Path(exists=True, dir_okay=False, readable=True).convert(path, param, ctx)
        return path


def store(command: F) -> F:
    """Add ``--backend`` and ``--db``."""
    db = SQLitePath(exists=True)
    command = click.option("--db", type=db, metavar="PATH", help="Read this SQLite file.")(command)
    return click.option("--backend", metavar="NAME", help="Read this backend; the default is the primary one.")(command)


def chosen_backends(command: F) -> F:
    """Add ``--backend`` and ``--db`` to a command that is about all backends, unless told otherwise."""
    command = click.option("--db", type=SQLitePath(), metavar="PATH", help=DB_HELP)(command)
    return click.option("--backend", metavar="NAME", help="Only this one of LLMSPAN_BACKENDS, or another.")(command)


def as_json(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")(command)


def record_filters(command: F) -> F:
    """Add ``--since``, ``--until``, ``--utc`` and ``--where``."""
    since = "Only calls since then: 15m, 24h, 7d, or a date such as 2026-01-31 (local time, or UTC with --utc)."
    command = utc_option(where_option(command))
    command = click.option("--until", metavar="WHEN", help="Only calls before then.")(command)
    return click.option("--since", metavar="WHEN", help=since)(command)


def where_option(command: F) -> F:
    """Add ``--where``."""
    text = (
        "Only calls with this value, e.g. status=error. KEY=A,B, or KEY twice, means either; KEY!=A,B neither;"
        " different keys must all hold. A comma in a value is written \\,."
    )
    return click.option("--where", multiple=True, metavar="KEY=VALUE", help=text)(command)


def open_reader(backend: str | None, db: str | None) -> Reader:
    """The reader that the options ask for; ``--db`` alone means the SQLite backend. Reading makes no store."""
    from ..reader import Reader

    return Reader.from_env(makes=False, backends=backend or ("sqlite" if db else None), sqlite_path=db)


def nothing(reader: Reader, *, chosen: bool) -> str:
    """What to say where there is nothing to print; ``chosen``: only some calls were asked for."""
    where = f"{reader.backend.name} ({reader.backend.location})"
    return f"no such calls in {where}" if chosen else f"no calls in {where} yet; start some with `llmspan run`"


def load(backend: str | None, db: str | None) -> tuple[Settings, list[Backend]]:
    """The settings, and the backends that the options ask for; ``--db`` alone means the SQLite backend."""
    from ..backends import load_backends
    from ..settings import Settings

    settings = Settings.from_env(backends=backend or ("sqlite" if db else None), sqlite_path=db)
    return settings, load_backends(settings)


def filters(since: str | None, until: str | None, where: tuple[str, ...] = ()) -> Filters:
    """The filters that the options ask for."""
    from ..backends.base import Filters
    from ..errors import SettingsError

    begin = None if since is None else parse_time(since, "--since")
    end = None if until is None else parse_time(until, "--until")
    try:
        return Filters(**_wanted(where), since=begin, until=end)
    except SettingsError as error:
        raise click.BadParameter(f"{error}", param_hint="--where") from None


def _wanted(where: tuple[str, ...]) -> dict[str, Any]:
    """By key, the one filter that all terms about it come to."""
    from ..backends.base import Filters, NoneOf, OneOf

    keys = [name for name in Filters.__dataclass_fields__ if name not in ("since", "until")]
    either: dict[str, list[str]] = {}
    neither: dict[str, list[str]] = {}
    for term in where:
        match = _TERM.fullmatch(term)
        if match is None or match[1] not in keys:
            expected = f"KEY=VALUE or KEY!=VALUE with a KEY of {', '.join(keys)}"
            raise click.BadParameter(f"{term!r} is not {expected}", param_hint="--where")
        values = [value.replace(r"\,", ",") for value in _COMMA.split(match[3])]
        (either if match[2] == "=" else neither).setdefault(match[1], []).extend(values)
    filters: dict[str, Any] = {key: NoneOf(tuple(values)) for key, values in neither.items()}
    for key, values in either.items():  # of a key with both, what is left
        filters[key] = OneOf(tuple(value for value in values if value not in neither.get(key, [])))
    return filters


def parse_time(text: str, option: str = "--since", *, now: int | None = None) -> int:
    """Nanoseconds since the epoch: so long ago (``7d``), or an ISO date or time, of the command's zone or its own.

    ``now``: from when so long ago is counted; by this machine's clock if not given.
    """
    if ago := re.fullmatch(r"(\d{1,6})([smhdw])", text.strip()):
        return (time.time_ns() if now is None else now) - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000_000
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        expected = "expected 30s, 15m, 24h, 7d, 2w or a time such as 2026-01-31T12:00"
        raise click.BadParameter(f"{text!r}: {expected}", param_hint=option) from None
    from ..trace import nanoseconds_of

    return nanoseconds_of(when if when.tzinfo else zoned(when))
