"""``llmspan export``: every record, whole, one JSON object per line; the same form that the socket speaks."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

import click

from . import options
from .output import echo
from .progress import progress_bar

if TYPE_CHECKING:
    from ..backends.base import Filters
    from ..reader import Reader

__all__ = ["export"]

#: records that are read and written together; fewer where their payloads are long
_PAGE: Final = 2_000


@click.command()
@click.option(
    "--format", type=click.Choice(["jsonl"]), default="jsonl", expose_value=False, help="One object per line."
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write here; only you may read it."
)
@options.record_filters
@options.store
def export(
    *,
    output: str | None,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    backend: str | None,
    db: str | None,
) -> None:
    """Print whole records as JSON, newest first."""
    chosen = options.filters(since, until, where)
    with options.open_reader(backend, db) as reader, _opened(output, reader.backend.location) as stream:
        with progress_bar(lambda: reader.count(chosen), to_stdout=output is None) as advance:
            record_count = _write(reader, chosen, stream, advance)
        if not record_count:
            echo(options.nothing(reader, chosen=bool(where or since or until)), err=True)
    if output is not None:
        echo(f"{record_count} records to {output}", err=True)


def _write(reader: Reader, filters: Filters, stream: TextIO, advance: Callable[[int], None]) -> int:
    """Write the records page by page, each page read by one query; their number."""
    record_count = 0
    page = reader.list_json(filters, limit=_PAGE)
    while True:
        stream.writelines(f"{line}\n" for line in page.lines)
        record_count += len(page.lines)
        advance(len(page.lines))
        if page.next_cursor is None:
            return record_count
        page = reader.list_json(filters, limit=_PAGE, cursor=page.next_cursor)


@contextmanager
def _opened(path: str | None, source: str) -> Generator[TextIO]:
    """The stream to write to. A file gets its name when all is written; a device or a pipe is written as it is."""
    if path is None:
        yield sys.stdout
        return
    if os.path.realpath(path) == os.path.realpath(source):
        raise click.BadParameter(f"{path} is the file that is being read", param_hint="--output")
    target = Path(os.path.realpath(path))  # a link stays, and what it points to is replaced
    try:
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8") as stream:
                yield stream
            return
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise click.FileError(path, error.strerror or str(error)) from error
    try:
        with _signals_raise(), os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            yield stream
        os.replace(temporary, target)  # noqa: PTH105 - mkstemp's name is a text
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def _signals_raise() -> Generator[None]:
    """Have the signals that would end the process at once end it by an exception, so that temporary files go."""
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers: list[Any] = [getattr(signal, name) for name in names if hasattr(signal, name)]
    changed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, frame: object) -> NoReturn:
    del frame
    raise SystemExit(128 + number)
