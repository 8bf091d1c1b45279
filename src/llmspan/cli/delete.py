"""``llmspan delete`` and ``llmspan prune``: delete records from every store, after a look at what that would be.

The records are counted in all stores before anything is deleted from one. Nothing is deleted that has not been
confirmed, in a terminal or by ``--yes``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..errors import LlmspanError, NoTablesError
from . import options
from .output import echo
from .progress import progress_bar
from .zone import clock_time, utc_option

if TYPE_CHECKING:
    from ..backends.base import Filters
    from ..deletion import DeletableBackend
    from ..trace import ProviderTrace

__all__ = ["delete", "prune"]

F = TypeVar("F", bound=Callable[..., Any])

#: records that are shown of each store
_SHOWN: Final = 3
_AGE: Final = "How old: 30d, 12h, 2w, or a date such as 2026-01-31. By the clock of the store."


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be deleted from one store."""

    backend: DeletableBackend
    filters: Filters
    matched: int
    newest: Sequence[ProviderTrace]
    thorough: bool


@dataclass(frozen=True, slots=True)
class _Consent:
    """How the user wants it done."""

    yes: bool
    dry_run: bool
    as_json: bool


def _deletion(command: F) -> F:
    """Add the options that both commands have."""
    command = options.as_json(command)
    command = click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")(command)
    command = click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)
    db = options.SQLitePath(exists=True)
    command = click.option("--db", type=db, metavar="PATH", help="Only from this SQLite file.")(command)
    return click.option("--backend", metavar="NAME", help="Only from this one of LLMSPAN_BACKENDS, or another.")(
        command
    )


@click.command()
@options.record_filters
@click.option("--all", "everything", is_flag=True, help="All calls.")
@_deletion
@click.pass_context
def delete(
    ctx: click.Context, *, since: str | None, until: str | None, where: tuple[str, ...], everything: bool,
    backend: str | None, db: str | None, yes: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Delete calls permanently, with payloads, from every store.

    They are counted and shown first. What waits in a spool, dead letters, and what Collectors and backups have, stay
    (docs/privacy.md).
    """
    if everything == bool(where or since or until):
        raise click.UsageError("say which calls, by --where, --since and --until, or else --all for all of them")
    filters = options.filters(since, until, where)
    with _backends(backend, db) as backends:
        plans = [_plan(store, lambda _: filters, thorough=True) for store in backends]
        ctx.exit(_run(plans, _Consent(yes, dry_run, as_json)))


@click.command()
@click.option("--older-than", required=True, metavar="AGE", help=_AGE)
@utc_option
@options.where_option
@_deletion
@click.pass_context
def prune(
    ctx: click.Context, *, older_than: str, where: tuple[str, ...],
    backend: str | None, db: str | None, yes: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Delete old calls from every store.

    They are counted and shown first. Stores can do this by themselves: LLMSPAN_SQLITE_RETENTION_DAYS,
    LLMSPAN_POSTGRES_RETENTION_DAYS, LLMSPAN_CLICKHOUSE_TTL.
    """
    options.parse_time(older_than, "--older-than")
    filters = options.filters(None, None, where)

    def older(backend: DeletableBackend) -> Filters:
        cutoff = _cutoff(older_than, backend)
        return replace(filters, until=cutoff if filters.until is None else min(filters.until, cutoff))

    with _backends(backend, db) as backends:
        ctx.exit(_run([_plan(store, older, thorough=False) for store in backends], _Consent(yes, dry_run, as_json)))


@contextmanager
def _backends(backend: str | None, db: str | None) -> Generator[Sequence[DeletableBackend]]:
    from ..deletion import deletable_backends

    backends = deletable_backends({"backends": backend or ("sqlite" if db else None), "sqlite_path": db})
    try:
        yield backends
    finally:
        for store in backends:
            store.shutdown()


def _cutoff(age: str, backend: DeletableBackend) -> int:
    """The time before which calls are older than ``age``, by the clock of the store; that is past, or an error."""
    now = backend.now()
    cutoff = options.parse_time(age, "--older-than", now=now)
    if cutoff >= now:
        reason = f"{age!r} is not past by the clock of {backend.name} ({backend.location}); name an earlier time"
        raise click.BadParameter(reason, param_hint="--older-than")
    return cutoff


def _plan(backend: DeletableBackend, make_filters: Callable[[DeletableBackend], Filters], *, thorough: bool) -> _Plan:
    from ..backends.base import Filters, OneOf

    try:
        filters = make_filters(backend)
        matched = backend.count(filters)
        newest = backend.list(filters, limit=_SHOWN).traces if matched else []
    except NoTablesError:  # if another process makes them now, nothing in them was counted
        return _Plan(backend, Filters(id=OneOf(())), 0, [], thorough)
    return _Plan(backend, filters, matched, newest, thorough)


def _run(plans: Sequence[_Plan], consent: _Consent) -> int:
    """Show what is planned, ask, and delete; the exit code."""
    if not (consent.as_json and (consent.yes or consent.dry_run)):
        for plan in plans:
            _show(plan, to_stderr=consent.as_json)
    if consent.dry_run:
        for plan in plans:
            _report(plan, 0, consent)
        return 0
    if not consent.yes and not _is_confirmed(sum(plan.matched for plan in plans)):
        echo("nothing is deleted", err=True)
        return 1
    failures = _delete_all(plans, consent)
    _note_copies([plan.backend.name for plan in plans])
    for error in failures[1:]:
        echo(f"Error: {error}", err=True)
    if failures:
        raise failures[0]
    return 0


def _delete_all(plans: Sequence[_Plan], consent: _Consent) -> list[LlmspanError]:
    """Delete from every store, also where that fails for another; what failed."""
    failures: list[LlmspanError] = []
    for plan in plans:
        try:
            _report(plan, _delete(plan), consent)
        except LlmspanError as error:
            failures.append(error)
    return failures


def _show(plan: _Plan, *, to_stderr: bool) -> None:
    calls = f"{plan.matched} such call{'' if plan.matched == 1 else 's'}"
    echo(f"{plan.backend.name} ({plan.backend.location}): {calls}", err=to_stderr)
    for record in plan.newest:
        model = record.response_model or record.request_model or "-"
        call = f"{record.provider} {record.operation} {model}"
        echo(f"  {clock_time(record.started)}  {record.id}  {call}", err=to_stderr)
    if plan.matched > len(plan.newest) > 0:
        echo(f"  ... and {plan.matched - len(plan.newest)} older", err=to_stderr)


def _is_confirmed(matched: int) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError(
            "standard input is not a terminal, so the deletion cannot be confirmed: nothing is deleted. Add --yes to"
            " delete, or --dry-run to look only"
        )
    # Without any, the deletion still clears what one that was interrupted has left in a log.
    return not matched or click.confirm(f"Delete {'it' if matched == 1 else 'them'} permanently?", err=True)


def _delete(plan: _Plan) -> int:
    from ..deletion import delete_in

    with progress_bar(lambda: plan.matched, to_stdout=False) as advance:
        return delete_in(plan.backend, plan.filters, thorough=plan.thorough, progress=advance)


def _report(plan: _Plan, deleted: int, consent: _Consent) -> None:
    backend = plan.backend
    if consent.as_json:
        numbers = {"matched": plan.matched, "deleted": deleted, "dry_run": consent.dry_run}
        echo(json.dumps({"backend": backend.name, "location": backend.location, **numbers}))
    elif not consent.dry_run:
        echo(f"{backend.name}: {deleted} deleted")


def _note_copies(backends: Sequence[str]) -> None:
    """Say where this machine may have more of the records, which the stores know nothing of."""
    from ..pipeline.dead_letters import DeadLetters
    from ..settings import Settings

    settings = Settings.from_env()
    for name in backends:
        letters = DeadLetters(settings.dead_letter_dir, name).path
        if _is_there(letters.parent, letters.name):
            echo(f"not deleted: the dead letters in {letters}; remove the lines, or the file, yourself", err=True)
    if settings.spool_dir is not None and _is_there(settings.spool_dir, "log-*/seg-*"):
        remedy = "it is stored when its stores answer: delete again then"
        echo(f"not deleted: what waits in the spool {settings.spool_dir}; {remedy}", err=True)


def _is_there(directory: Path, pattern: str) -> bool:
    """Whether a file that is not empty fits the pattern, as far as this user may look."""
    try:
        return any(path.stat().st_size for path in directory.expanduser().glob(pattern))
    except (OSError, RuntimeError):  # RuntimeError: nobody's home
        return False
