"""What the reading commands have in common: which store, which records, JSON or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from .zone import is_utc, utc_option

if TYPE_CHECKING:
    from ..backends.base import Backend, Filters
    from ..reader import Reader
    from ..settings import Settings

__all__ = [
    "DB_HELP",
    "SQLitePath",
    "all_option",
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
_ALL: Final = "llmspan.all"
#: whether free text is searched for without a time
_UNBOUNDED: Final = "llmspan.unbounded"
DB_HELP: Final = "The SQLite file: LLMSPAN_SQLITE_PATH."


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
    """Add ``--backend`` and ``--db`` to a command that is about all backends by default."""
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


def all_option(command: F) -> F:
    """Add ``--all``, which :func:`filters` looks up itself."""
    text = "Search the payloads of all calls, of whatever age, for free text."
    return click.option("--all", is_flag=True, expose_value=False, callback=_remember_all, help=text)(command)


def _remember_all(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    context.meta[_ALL] = value


def where_option(command: F) -> F:
    """Add ``--where``."""
    text = (
        "Only such calls: 'status:error model:claude* tokens>1000 duration>2s tenant=acme -user:bot \"free text\"'."
        " A,B means either, - or != neither, KEY:none not reported; all terms must hold. See docs/querying.md."
    )
    return click.option("--where", multiple=True, metavar="QUERY", help=text)(command)


def cost(command: F) -> F:
    """Add ``--cost``."""
    text = 'Add what the calls cost; needs `pip install "llmspan[cost]"` or own prices (LLMSPAN_PRICES).'
    return click.option("--cost", is_flag=True, help=text)(command)


def require_prices(reader: Reader) -> None:
    """Raise :class:`SettingsError` if there are no prices at all."""
    from ..cost import available
    from ..errors import SettingsError

    if not available(reader.own_prices):
        raise SettingsError(
            '--cost needs prices: those of genai-prices (pip install "llmspan[cost]"), or your own (LLMSPAN_PRICES)'
        )


def open_reader(backend: str | None, db: str | None) -> Reader:
    """The reader that the options ask for; ``--db`` alone means the SQLite backend. Reading makes no store."""
    from ..reader import Reader

    reader = Reader.from_env(makes=False, backends=backend or ("sqlite" if db else None), sqlite_path=db)
    context = click.get_current_context(silent=True)
    if context is None or not context.meta.get(_UNBOUNDED, False):
        return reader
    with closing(reader):
        has_index = reader.has_text_index()  # opens the store; who goes on opens it anew
    if not has_index:
        raise _unbounded_search(", or give --all; `llmspan index --text` makes an index, with which neither is needed")
    return reader


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
    begin = None if since is None else parse_time(since, "--since")
    end = None if until is None else parse_time(until, "--until")
    chosen = _parse_where(where)
    bounded = replace(chosen, since=_both(max, chosen.since, begin), until=_both(min, chosen.until, end))
    _check_search(bounded)
    return bounded


def _check_search(filters: Filters) -> None:
    """Raise unless the payloads that free text is looked for in have a bound, or all are asked for.

    Of a command that has ``--all``, it is left to :func:`open_reader`, as an index may be bound enough.
    """
    from ..query.keys import TEXT

    context = click.get_current_context(silent=True)
    everything = context is not None and context.meta.get(_ALL, False)
    if filters.since is None and not everything and any(condition.key == TEXT.name for condition in filters.conditions):
        if context is None or _ALL not in context.meta:
            raise _unbounded_search("")
        context.meta[_UNBOUNDED] = True


def _unbounded_search(remedy: str) -> click.BadParameter:
    text = f"free text would be looked for in all payloads; name a time, as in since:7d{remedy}"
    return click.BadParameter(text, param_hint="--where")


def _both(choose: Callable[[int, int], int], first: int | None, second: int | None) -> int | None:
    return choose(first, second) if first is not None and second is not None else first if second is None else second


def _parse_where(where: tuple[str, ...]) -> Filters:
    """The filters of all ``--where``, each in the query language.

    A value may have spaces without quotes where the language cannot mean anything by them: ``user_id=Ann Smith``.
    """
    from ..backends.base import Filters
    from ..errors import SettingsError

    zone = UTC if is_utc() else None
    texts: list[str] = []
    for text in where:
        if not text.strip():
            raise click.BadParameter("it is empty, which would mean all calls", param_hint="--where")
        try:
            Filters.parse(text, zone=zone)
            texts.append(text)
        except SettingsError as error:
            quoted = _with_quotes(text)
            if quoted is None:
                raise click.BadParameter(f"{error}", param_hint="--where") from None
            texts.append(quoted)
    try:
        return Filters.parse(*texts, zone=zone)
    except SettingsError as error:
        raise click.BadParameter(f"{error}", param_hint="--where") from None


def _with_quotes(text: str) -> str | None:
    """``KEY=VALUE`` with the value in quotes, if the value has spaces and is nothing else in the language."""
    match = _TERM.fullmatch(text)
    if match is None or not re.search(r"\s", match[3]) or re.search(r"\s\S*[:=<>]", match[3]):
        return None
    return match[1] + match[2] + re.sub(r'([\s"])', r"\\\1", match[3])


def parse_time(text: str, option: str = "--since", *, now: int | None = None) -> int:
    """Nanoseconds since the epoch: so long ago (``7d``), or an ISO date or time, of the command's zone or its own.

    ``now``: from when so long ago is counted; by this machine's clock if not given.
    """
    from ..errors import QueryError
    from ..query.values import period

    try:
        begin, _ = period(text, now=now, zone=UTC if is_utc() else None)
    except QueryError as error:
        raise click.BadParameter(f"{error}", param_hint=option) from None
    return begin
