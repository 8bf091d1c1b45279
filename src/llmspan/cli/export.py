"""``llmspan export``: every record, whole, one JSON object per line; the same form that the socket speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

import click

from . import options

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
                stream.write(trace.to_json() + "\n")
                written += 1
    if output is not None:
        click.echo(f"{written} records to {output}", err=True)


@contextmanager
def _opened(path: str | None, source: str) -> Generator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    if os.path.realpath(path) == os.path.realpath(source):
        raise click.BadParameter(f"{path} is the file that is being read", param_hint="--output")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise click.FileError(path, error.strerror) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(descriptor, 0o600)  # it may have been there before, for everybody
        yield stream
