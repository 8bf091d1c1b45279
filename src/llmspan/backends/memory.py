"""Records in a dictionary, for tests and for programs that look at their calls in the same process.

It keeps rows, as SQLite does, so that what is read is what any other store would give back. Nothing is ever dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from time import time_ns
from typing import ClassVar, Final

from .._native import Lock
from ..settings import Settings
from ..trace import FAILED, KEYS, ProviderTrace
from .base import Filters, GroupBy, NoneOf, OneOf, Page, StatsRow, check_groups
from .payload_pages import take_page
from .rows import LISTED_KEYS, Cell, as_page, check_limit, decode, decode_cursor, encode, plain_text

__all__ = ["MemoryBackend"]

_Row = Mapping[str, Cell]


class MemoryBackend:
    """Keeps all records until it is dropped; ``shutdown`` does not forget them."""

    name: ClassVar[str] = "memory"
    readable: ClassVar[bool] = True

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._lock = Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> MemoryBackend:
        """A new, empty store; no setting matters to it."""
        del settings
        return cls()

    @property
    def location(self) -> str:
        """A text of its own for each store."""
        return f"memory:{id(self):x}"

    def open(self) -> None:
        """Do nothing: memory is there."""

    def check(self) -> str:
        """How many records there are."""
        with self._lock:
            return f"{len(self._rows)} records in memory"

    def migrate(self) -> Sequence[str]:
        """Do nothing: there is no schema."""
        return []

    def force_flush(self, timeout: float) -> bool:
        """True: a write is done when it returns."""
        del timeout
        return True

    def shutdown(self) -> None:
        """Do nothing: there is nothing to release."""

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; known ids stay as they are."""
        rows = [encode(trace) for trace in traces]
        with self._lock:
            for row in rows:
                self._rows.setdefault(str(row["id"]), row)

    def remove(self, ids: Sequence[str]) -> None:
        """Take the records with these ids out."""
        with self._lock:
            for name in ids:
                self._rows.pop(plain_text(name), None)

    def delete(
        self, filters: Filters, *, thorough: bool = True, progress: Callable[[int], object] | None = None
    ) -> int:
        """Delete all records that ``filters`` mean."""
        del thorough
        with self._lock:
            ids = [name for name, row in self._rows.items() if _matches(row, filters)]
            for name in ids:
                del self._rows[name]
        if progress is not None:
            progress(len(ids))
        return len(ids)

    def now(self) -> int:
        """The time of this machine."""
        return time_ns()

    def get(self, trace_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``."""
        with self._lock:
            row = self._rows.get(plain_text(trace_id))
        return None if row is None else decode(row)

    def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        """The newest record of a step."""
        records = self._select(Filters(step_id=step_id))
        return decode(records[-1]) if records else None

    def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        """All records of a step, oldest first, with payloads."""
        return [decode(row) for row in self._select(Filters(step_id=step_id))]

    def list(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None, payload: bool = False
    ) -> Page:
        """A page of records, newest first; with their payloads only if ``payload``."""
        check_limit(limit)
        last = None if cursor is None else decode_cursor(cursor)
        rows = (row for row in reversed(self._select(filters)) if last is None or _place(row) < last)
        if payload:
            page, next_cursor = take_page(([row[key] for key in KEYS] for row in rows), limit)
            return Page([decode(dict(zip(KEYS, row, strict=True))) for row in page], next_cursor)
        return as_page([decode({key: row[key] for key in LISTED_KEYS}) for row in islice(rows, limit + 1)], limit)

    def ids_with_prefix(self, prefix: str, limit: int) -> Sequence[str]:
        """At most ``limit`` ids that begin with ``prefix``, in their order."""
        with self._lock:
            ids = sorted(self._rows)
        return list(islice((record_id for record_id in ids if record_id.startswith(plain_text(prefix))), limit))

    def count(self, filters: Filters | None = None) -> int:
        """How many records are meant."""
        return len(self._select(filters))

    def stats(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        """Sums per group, in the order of the group's values."""
        check_groups(group_by)
        groups: dict[tuple[str | None, ...], list[_Row]] = {} if group_by else {(): []}
        for row in self._select(filters):
            groups.setdefault(tuple(_GROUPS[name](row) for name in group_by), []).append(row)
        order = sorted(groups, key=lambda values: [(value is not None, value or "") for value in values])
        return [_stats(dict(zip(group_by, values, strict=True)), groups[values]) for values in order]

    def _select(self, filters: Filters | None) -> Sequence[_Row]:
        """The rows that are meant, oldest first."""
        filters_or_all = filters or Filters()
        with self._lock:
            rows = list(self._rows.values())
        return sorted((row for row in rows if _matches(row, filters_or_all)), key=_place)


def _place(row: _Row) -> tuple[int, str]:
    return int(row["started_at"] or 0), str(row["id"])


def _matches(row: _Row, filters: Filters) -> bool:
    at, _ = _place(row)
    if (filters.since is not None and at < filters.since) or (filters.until is not None and at >= filters.until):
        return False
    return all(_passes(row[key], choice) for key, choice in filters.choices().items())


def _passes(cell: Cell, choice: OneOf | NoneOf) -> bool:
    return (cell in [plain_text(value) for value in choice.values]) == isinstance(choice, OneOf)


def _column(name: str) -> Callable[[_Row], str | None]:
    def read(row: _Row) -> str | None:
        value = row[name]
        return None if value is None else str(value)

    return read


def _model(row: _Row) -> str | None:
    value = row["request_model"] if row["response_model"] is None else row["response_model"]
    return None if value is None else str(value)


_GROUPS: Final[Mapping[GroupBy, Callable[[_Row], str | None]]] = {
    "model": _model,
    "provider": _column("provider"),
    "operation": _column("operation"),
    "status": _column("status"),
    "day": lambda row: f"{decode(row).started:%Y-%m-%d}",
    "agent_id": _column("agent_id"),
    "user_id": _column("user_id"),
    "org_id": _column("org_id"),
    "call_type": _column("call_type"),
    "source": _column("source"),
}


def _stats(group: Mapping[str, str | None], rows: Sequence[_Row]) -> StatsRow:
    return StatsRow(
        group=group,
        calls=len(rows),
        failures=sum(row["status"] in FAILED for row in rows),
        without_usage=sum(row["usage_source"] == "none" for row in rows),
        input_tokens=_sum(row["input_tokens"] for row in rows),
        output_tokens=_sum(row["output_tokens"] for row in rows),
        cache_read_tokens=_sum(row["cache_read_tokens"] for row in rows),
        cache_write_tokens=_sum(row["cache_write_tokens"] for row in rows),
        reasoning_tokens=_sum(row["reasoning_tokens"] for row in rows),
    )


def _sum(cells: Iterable[Cell]) -> int | None:
    reported = [int(cell) for cell in cells if cell is not None]
    return sum(reported) if reported else None
