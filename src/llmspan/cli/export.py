"""``llmspan export``: every record, whole, one JSON object per line; the same form that the socket speaks."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from . import options
from .output import echo

__all__ = ["export"]


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
    written = 0
    with options.open_reader(backend, db) as reader, _opened(output, reader.backend.location) as stream:
        for listed in reader.iterate(chosen):
            trace = reader.get(listed.id)
            if trace is not None:
                stream.write(trace.to_json_line() + "\n")
                written += 1
        if not written:
            echo(options.nothing(reader, chosen=bool(where or since or until)), err=True)
    if output is not None:
        echo(f"{written} records to {output}", err=True)


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
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            yield stream
        os.replace(temporary, target)  # noqa: PTH105 - mkstemp's name is a text
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
