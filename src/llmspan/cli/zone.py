"""In which time zone commands print and read times: the local one with its offset, or UTC with ``--utc``.

Whatever prints a time prints the offset with it or above it. JSON is not for people: its times are UTC, always.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timezone, tzinfo
from typing import Any, Final, TypeVar

import click

__all__ = ["clock_time", "fixed_zone", "is_utc", "offset", "utc_option", "zoned"]

F = TypeVar("F", bound=Callable[..., Any])

_KEY: Final = "llmspan.utc"


def utc_option(command: F) -> F:
    """Add ``--utc``, which the functions of this module look up themselves."""
    text = "Times in UTC, also those of the options; the default is local time."
    return click.option("--utc", is_flag=True, expose_value=False, callback=_remember, help=text)(command)


def _remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    context.meta[_KEY] = value


def is_utc() -> bool:
    """Whether the command that runs was given ``--utc``."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_KEY))


def zoned(moment: datetime) -> datetime:
    """``moment`` in the zone of the command; one without a zone is taken to be in that zone."""
    if is_utc():
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    try:
        return moment.astimezone()
    except (OverflowError, ValueError, OSError):  # the system has no offset for the years 1 and 9999
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def fixed_zone() -> tzinfo:
    """The zone of a listing: UTC, or the offset that local time has now, also for the times of other seasons."""
    moment = datetime.now(UTC)
    return UTC if is_utc() else timezone(moment.astimezone().utcoffset() or moment - moment)


def offset(moment: datetime) -> str:
    """What names the zone of ``moment``: ``UTC`` if that was asked for, else its offset, such as ``-05:00``."""
    text = f"{moment:%z}"
    return "UTC" if is_utc() else f"{text[:3]}:{text[3:5]}"


def clock_time(moment: datetime) -> str:
    """``moment`` to the second, with its zone."""
    local = zoned(moment)
    return f"{local:%Y-%m-%d %H:%M:%S} {offset(local)}"
