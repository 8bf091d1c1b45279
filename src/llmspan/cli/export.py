"""``llmspan export``: whole records as JSON lines, which is the form that the socket speaks, or tables of columns."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click

from . import options
from .output import echo
from .progress import progress_bar

__all__ = ["export"]


@click.command()
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["jsonl", "csv", "parquet", "openai-finetune"]),
    default="jsonl",
    show_default=True,
    help="Whole records as JSON lines; a table; or examples for fine-tuning.",
)
@click.option("--columns", metavar="NAMES", help="Comma list: only these, in this order (docs/tables.md).")
@click.option(
    "--escape-formulas/--no-escape-formulas",
    default=True,
    help="In CSV, put ' before texts that a spreadsheet would run as formulas; by default.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write here; only you may read it."
)
@options.cost
@options.record_filters
@options.all_option
@options.store
def export(
    *,
    format_name: str,
    columns: str | None,
    escape_formulas: bool,
    output: str | None,
    cost: bool,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    backend: str | None,
    db: str | None,
) -> None:
    """Print whole records as JSON, or tables, newest first."""
    from ..export_formats import Export, write

    names = _column_names(columns, format_name)
    chosen = options.filters(since, until, where)
    if format_name == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is not for a terminal; give -o FILE")
    with options.open_reader(backend, db) as reader, _opened(output, reader.backend.location) as stream:
        if cost:
            options.require_prices(reader)
        job = Export(reader, chosen, names, cost=cost, escape_formulas=escape_formulas)
        with progress_bar(lambda: reader.count(chosen), to_stdout=output is None) as job.advance:
            record_count = write(format_name, job, stream)
        if not record_count and not job.skipped:
            echo(options.nothing(reader, chosen=bool(where or since or until)), err=True)
    for reason, number in sorted(job.skipped.items()):
        echo(f"calls that are no examples, {reason}: {number}", err=True)
    if output is not None:
        echo(f"{record_count} records to {output}", err=True)


def _column_names(columns: str | None, format_name: str) -> list[str] | None:
    """The columns that are asked for, all known."""
    if columns is None:
        return None
    if format_name == "openai-finetune":
        raise click.UsageError("--columns is for tables; an example for fine-tuning has no columns")
    from ..query.tables import check_columns

    names = [name.strip() for name in columns.split(",")]
    check_columns(names)
    return names


@contextmanager
def _opened(path: str | None, source: str) -> Generator[BinaryIO | None]:
    """The file to write to, None for standard output.

    A file gets its name when all is written; a device or a pipe is written as it is.
    """
    if path is None:
        yield None
        return
    if os.path.realpath(path) == os.path.realpath(source):
        raise click.BadParameter(f"{path} is the file that is being read", param_hint="--output")
    target = Path(os.path.realpath(path))  # a link stays, and what it points to is replaced
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                yield stream
            return
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise click.FileError(path, error.strerror or str(error)) from error
    try:
        with _signals_raise(), os.fdopen(descriptor, "wb") as stream:
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
