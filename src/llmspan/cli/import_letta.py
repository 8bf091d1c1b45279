"""``llmspan import-letta``: the calls that Letta recorded in its Postgres, into backends of ours.

A run that was interrupted is simply repeated: what is there already stays as it is.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import BackendError, PermanentError, RecordError
from . import options
from .output import echo

if TYPE_CHECKING:
    from ..backends.base import Backend
    from ..trace import ProviderTrace

__all__ = ["import_letta"]

#: what is counted, in the order in which it is printed
_COUNTS: Final = ("rows", "imported", "failures", "without_usage", "present", "deleted", "skipped")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: the first moment that Python and Postgres have, from the epoch
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC) - _EPOCH


@click.command("import-letta")
@click.option("--dsn", required=True, metavar="DSN", help="Letta's database: postgresql://user:password@host/database.")
@click.option("--schema", default="public", show_default=True, metavar="NAME", help="Where its tables are.")
@click.option("--since", metavar="WHEN", help="Only calls since then: 24h, 7d, or a date such as 2026-01-31.")
@click.option("--batch", type=click.IntRange(1, 1000), default=100, show_default=True, help="Rows at a time.")
@click.option("--dry-run", is_flag=True, help="Read and convert everything, and store nothing.")
@options.chosen_backends
@options.as_json
def import_letta(
    *,
    dsn: str,
    schema: str,
    since: str | None,
    batch: int,
    dry_run: bool,
    backend: str | None,
    db: str | None,
    as_json: bool,
) -> None:
    """Import the calls that Letta recorded.

    Rows that cannot be converted are reported and skipped. Running it again imports what has come since.
    """
    from .letta_table import LettaTable

    begin = None if since is None else _EPOCH + max(timedelta(microseconds=options.parse_time(since) // 1000), _FIRST)
    _, backends = options.load(backend, db)
    table = LettaTable(dsn, schema, since=begin, batch=batch)
    counts: Counter[str] = Counter()
    try:
        for target in [] if dry_run else backends:
            target.open()
        with click.progressbar(length=table.count(), file=sys.stderr, label="rows") as bar:
            for page in table.pages():
                traces = _converted(page, counts)
                if not dry_run:
                    traces = _missing(backends, traces, counts)
                _count_imported(traces, counts)
                for target in [] if dry_run else backends:
                    _write(target, traces, counts)
                bar.update(len(page))
    finally:
        table.close()
        for target in backends:
            target.shutdown()
    _report(counts, "nowhere, as asked" if dry_run else ", ".join(f"{one.name} ({one.location})" for one in backends),
            as_json=as_json)  # fmt: skip


def _converted(page: Sequence[Mapping[str, Any]], counts: Counter[str]) -> list[ProviderTrace]:
    from .letta import to_record

    traces: list[ProviderTrace] = []
    for row in page:
        counts["rows"] += 1
        if row.get("is_deleted"):
            counts["deleted"] += 1
            continue
        try:
            record = to_record(row)
        except RecordError as error:
            counts["skipped"] += 1
            echo(f"skipped {row['id']}: {error}", err=True)
            continue
        traces.append(record)
    return traces


def _missing(backends: Sequence[Backend], traces: Sequence[ProviderTrace], counts: Counter[str]) -> list[ProviderTrace]:
    """The records that a backend does not have yet; the others are counted as present."""
    missing = [record for record in traces if not all(_has(backend, record.id) for backend in backends)]
    counts["present"] += len(traces) - len(missing)
    return missing


def _has(backend: Backend, record_id: str) -> bool:
    """Whether a record is known to be in ``backend``; one that cannot be read is written to again."""
    if not backend.readable:
        return False
    try:
        return list(backend.ids_with_prefix(record_id, 1)) == [record_id]
    except BackendError:  # a role that may only write
        return False


def _count_imported(traces: Sequence[ProviderTrace], counts: Counter[str]) -> None:
    counts["imported"] += len(traces)
    counts["failures"] += sum(record.status != "ok" for record in traces)
    counts["without_usage"] += sum(record.usage.source == "none" for record in traces)


def _write(backend: Backend, traces: Sequence[ProviderTrace], counts: Counter[str]) -> None:
    """Write a page; what the backend will never take is named, and the rest is written."""
    try:
        backend.write(traces)
    except PermanentError as error:
        if len(traces) == 1:
            counts["skipped"] += 1
            counts["imported"] -= 1
            echo(f"skipped {traces[0].attributes['letta.id']}: {backend.name}: {error}", err=True)
            return
        middle = len(traces) // 2
        _write(backend, traces[:middle], counts)
        _write(backend, traces[middle:], counts)


def _report(counts: Counter[str], where: str, *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps({name: counts[name] for name in _COUNTS}))
        return
    details = {"failures": "that failed", "without_usage": "without usage"}
    inside = ", ".join(f"{counts[name]} {words}" for name, words in details.items() if counts[name])
    passed_over = {"present": "there already", "deleted": "deleted", "skipped": "skipped"}
    passed_text = ", ".join(f"{counts[name]} {words}" for name, words in passed_over.items() if counts[name])
    echo(f"{counts['rows']} rows: {counts['imported']} imported{f' ({inside})' if inside else ''}"
               f"{f', {passed_text}' if passed_text else ''}; stored in {where}")  # fmt: skip
