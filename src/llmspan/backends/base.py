"""What a trace backend is: a synchronous store of provider traces.

Backends are called from worker threads (writes) and by the reader (reads), one call at a time each unless they say
otherwise (``joint_reads.py``); they never run on a caller's thread or event loop. They know nothing of queues or
retries; to store spans as well is optional (:class:`SupportsSpanWrites`). Making one must neither connect nor fail:
what can go wrong goes wrong in :meth:`Backend.open`, with a clear error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

from ..cost import PriceLimits
from ..errors import QueryError
from ..notebook_html import list_table
from ..query.filters import Filters, NoneOf, OneOf
from ..query.statistics import Measures
from ..settings import Settings
from ..span_record import SpanRecord
from ..trace import ProviderTrace

__all__ = [
    "GROUPS",
    "NO_RECORDS",
    "Backend",
    "Filters",
    "GroupBy",
    "JsonPage",
    "NoneOf",
    "OneOf",
    "Page",
    "PriceClass",
    "StatsRow",
    "SupportsCancel",
    "SupportsConditions",
    "SupportsCount",
    "SupportsDelete",
    "SupportsJsonPages",
    "SupportsMeasures",
    "SupportsReadOnly",
    "SupportsRemove",
    "SupportsRetention",
    "SupportsSpanWrites",
    "SupportsSpans",
    "SupportsTextIndex",
    "SupportsUsageSums",
]

#: What ``stats`` can group by: a period (``hour``, ``day``, ``week``, ``month``), a scalar key of the record or its
#: short name, ``model`` (the response model, or the requested one where none came back), ``tag``, or an attribute.
GroupBy = str
#: those of them that every backend has always known
GROUPS: Final[tuple[GroupBy, ...]] = (
    "model", "provider", "operation", "status", "day", "agent_id", "user_id", "org_id", "call_type", "source",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """Records, newest first, and the cursor of the next page (None on the last)."""

    traces: Sequence[ProviderTrace]
    next_cursor: str | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows: a line for each record."""
        names = ("started", "id", "provider", "model", "status", "input", "output", "ms")
        rows = [
            (f"{trace.started:%Y-%m-%d %H:%M:%S}Z", trace.id, trace.provider,
             trace.response_model or trace.request_model, trace.status, trace.usage.input_tokens,
             trace.usage.output_tokens, trace.duration_ns // 1_000_000)
            for trace in self.traces
        ]  # fmt: skip
        return list_table(names, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRow:
    """Sums over a group of records; ``failures`` are those of :data:`llmspan.trace.FAILED`.

    Token sums are over the records that report the number, None if none does.
    """

    group: Mapping[str, str | None]
    calls: int
    failures: int
    without_usage: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    details: Mapping[str, int] = field(default_factory=dict[str, int])
    #: latencies and rates, where they were asked for
    measures: Measures | None = None

    @property
    def failure_rate(self) -> float | None:
        """The part of the calls that failed; None of no calls."""
        return self.failures / self.calls if self.calls else None

    def _repr_html_(self) -> str:
        """What a notebook shows: the group and its sums, ``-`` for those that no call has reported."""
        names = [f.name for f in fields(self) if f.name not in ("group", "details", "measures")]
        measures = {} if self.measures is None else asdict(self.measures)
        numbers = {name: getattr(self, name) for name in names} | dict(self.details) | measures
        return list_table([*self.group, *numbers], [[*self.group.values(), *numbers.values()]])


#: the row over all records of a store that has none
NO_RECORDS: Final = StatsRow(
    group={}, calls=0, failures=0, without_usage=0, input_tokens=None, output_tokens=None, cache_read_tokens=None,
    cache_write_tokens=None, reasoning_tokens=None,
)  # fmt: skip


@runtime_checkable
class Backend(Protocol):
    """A store of provider traces."""

    #: the name in ``LLMSPAN_BACKENDS``
    name: ClassVar[str]
    #: whether records can be read back (a socket cannot)
    readable: ClassVar[bool]

    @classmethod
    def from_settings(cls, settings: Settings) -> Backend:
        """The backend that the settings describe. Neither connects nor raises."""
        ...

    @property
    def location(self) -> str:
        """Where the records are, for people: a path, or a DSN without its password. Same place, same text."""
        ...

    def open(self) -> None:
        """Make sure that the store can be used, and make its schema where that is allowed; called again, do nothing.

        Raises:
            SettingsError: a setting cannot be read, or names a local file that cannot be used: an error at start.
            RefusedError: the store refuses us as it is now (password, rights, no such database).
            SchemaError: the store was made by a newer version.
            RetryableError: it cannot be reached now.
        """
        ...

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        """Store all of ``traces`` or none; a record whose ``id`` is already there is left as it is.

        Raises:
            PermanentError: these records can never be stored.
            RetryableError: they could not be stored now.
        """
        ...

    def get(self, record_id: str, /) -> ProviderTrace | None:
        """The record with this ``id``."""
        ...

    def get_by_step_id(self, step_id: str) -> ProviderTrace | None:
        """The newest record of a step."""
        ...

    def list_by_step_id(self, step_id: str) -> Sequence[ProviderTrace]:
        """All records of a step, oldest first, with payloads."""
        ...

    def list(
        self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None, payload: bool = False
    ) -> Page:
        """A page of records, newest first; with their payloads only if ``payload``.

        A page with payloads may have fewer records than ``limit`` although more follow, so that it fits in memory.
        The order, by time and then by id, never changes. So whoever follows the cursors meets no record twice, and
        every record that is there from the first page to the last.
        """
        ...

    def ids_with_prefix(self, prefix: str, limit: int) -> Sequence[str]:
        """At most ``limit`` ids that begin with ``prefix``, in their order."""
        ...

    def stats(self, group_by: Sequence[GroupBy], filters: Filters | None = None) -> Sequence[StatsRow]:
        """Sums per group, in the order of the group's values. Empty ``group_by``: one row over all records."""
        ...

    def check(self) -> str:
        """One line on what answers and whether it can be used: product, versions, place.

        Raises:
            SettingsError: the place cannot be used as configured.
            BackendError: it does not answer, or has the wrong schema.
        """
        ...

    def migrate(self) -> Sequence[str]:
        """Bring the store to the newest schema; the names of what was applied, none if it was there already.

        Raises:
            SettingsError: this user may not.
            SchemaError: the store was made by a newer version, or is not ours.
        """
        ...

    def force_flush(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds until all that was written is safe; whether it is. Any thread may ask."""
        ...

    def shutdown(self) -> None:
        """Release connections and files. The backend can be opened again."""
        ...


@runtime_checkable
class SupportsConditions(Protocol):
    """A backend that knows all that filters can require, and reads :meth:`~llmspan.Filters.all_conditions`.

    Others are asked only for what :meth:`~llmspan.Filters.choices` says, and never for anything that they would leave
    out.
    """

    #: True
    knows_conditions: ClassVar[bool]


@dataclass(frozen=True, slots=True)
class JsonPage:
    """Records as :meth:`~llmspan.trace.ProviderTrace.to_json_line` writes them; otherwise as :class:`Page`."""

    lines: Sequence[str]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceClass:
    """Calls of a group whose price depends on nothing but the sums of their counts."""

    group: Mapping[str, str | None]
    calls: int
    #: a call that might be one of them
    example: ProviderTrace
    #: the sums of :data:`llmspan.cost.PRICED_COUNTS`; None if each of the calls has exactly the example's usage
    sums: Mapping[str, int] | None
    #: classes with sums and with the same key differ in group, calls, sums, and the sides of the limits only
    key: tuple[Any, ...] = ()


@runtime_checkable
class SupportsUsageSums(Protocol):
    """A backend that sums up what ``stats`` does not, so that it is not read call by call; no backend has to."""

    def price_classes(
        self, group_by: Sequence[GroupBy], filters: Filters | None, limits: PriceLimits
    ) -> Sequence[PriceClass] | None:
        """The classes of all calls that are meant, in any order, or None if the database has not what that takes.

        ``limits`` are where prices change.
        """
        ...

    def detail_sums(
        self, group_by: Sequence[GroupBy], filters: Filters | None, names: Sequence[str]
    ) -> Mapping[tuple[str | None, ...], Mapping[str, int]] | None:
        """Sums of ``names`` in ``usage_details`` over the calls without usage, by group.

        A name that no call of a group has is not there. None if the database cannot read all of them.
        """
        ...


@runtime_checkable
class SupportsMeasures(Protocol):
    """A backend that computes latencies and rates of groups; no backend has to."""

    def measures(
        self, group_by: Sequence[GroupBy], filters: Filters | None = None
    ) -> Mapping[tuple[str | None, ...], Measures]:
        """The measures of each group that has records, by the group's values."""
        ...


@runtime_checkable
class SupportsCount(Protocol):
    """A backend that counts records without summing up what is in them; no backend has to."""

    def count(self, filters: Filters | None = None) -> int:
        """How many records are meant."""
        ...


@runtime_checkable
class SupportsJsonPages(Protocol):
    """A backend that makes the JSON of its records without making the records, which is faster; no backend has to."""

    def list_json(self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None) -> JsonPage:
        """The page that ``list`` gives with payloads, as JSON."""
        ...


@runtime_checkable
class SupportsCancel(Protocol):
    """A backend whose queries can be ended before they have answered; no backend has to."""

    def cancel(self) -> None:
        """End the query that is running, which raises :class:`RetryableError`; none running, do nothing.

        Any thread may ask. The backend may be used afterwards, but the end may meet the next query: ask for nothing
        before the query has raised, or shut the backend down in between.
        """
        ...

    def limit_reads(self, seconds: float) -> None:
        """End each query by itself after ``seconds``, where :meth:`cancel` cannot."""
        ...


@runtime_checkable
class SupportsRemove(Protocol):
    """A backend that can take records out again; no backend has to."""

    def remove(self, ids: Sequence[str]) -> None:
        """Take the records with these ids out, payloads and all; ids that are not there are no failure.

        Raises:
            RetryableError: not possible now.
        """
        ...


@runtime_checkable
class SupportsDelete(SupportsCount, Protocol):
    """A backend whose records can be deleted by filters; no backend has to."""

    def delete(
        self, filters: Filters, *, thorough: bool = True, progress: Callable[[int], object] | None = None
    ) -> int:
        """Delete all records that ``filters`` mean, payloads and all, and return how many there were.

        Others may write meanwhile: nothing that ``filters`` do not mean is lost, and what they mean and comes during
        the call may stay.

        Args:
            filters: which records; ``Filters()`` means all.
            thorough: also clear copies that a store may have left in parts that it shares with other records.
            progress: called with the number of records each time that some are deleted.

        Raises:
            RefusedError: this user may not; the message says which right is missing.
            RetryableError: not possible now, or not all of it; doing it again does the rest.
        """
        ...

    def now(self) -> int:
        """Nanoseconds since the epoch by the clock of the store, where it has one of its own."""
        ...


@runtime_checkable
class SupportsTextIndex(Protocol):
    """A backend that can have an index for free text, with and without which it finds the same; no backend has to."""

    def has_text_index(self) -> bool:
        """Whether there is one."""
        ...

    def index_text(self, progress: Callable[[int], object] | None = None) -> None:
        """Make the index, or bring it up to date; others may write meanwhile.

        Raises:
            SettingsError: the store as it is set up cannot have one.
            RefusedError: this user may not make one.
        """
        ...

    def drop_text_index(self) -> None:
        """Remove the index, if there is one."""
        ...


@runtime_checkable
class SupportsReadOnly(Protocol):
    """A backend that can be read where it cannot be written to; others are opened alike for both."""

    def open_for_reading(self) -> None:
        """As :meth:`Backend.open`, for one who only reads."""
        ...


@runtime_checkable
class SupportsRetention(Protocol):
    """A backend that deletes old records by itself when it is written to, where it is set up so; no backend has to."""

    def suspend_retention(self) -> None:
        """Delete nothing by itself from now on: for one who writes only to see whether that works."""
        ...


@runtime_checkable
class SupportsSpanWrites(Protocol):
    """A backend that takes spans beside the records; no backend has to."""

    @property
    def keeps_spans(self) -> bool:
        """Whether spans can be written, as far as is known. If not, none are handed over."""
        ...

    def write_spans(self, spans: Sequence[SpanRecord]) -> None:
        """Store all of ``spans`` or none; a span that is there already is left as it is. Raises as ``write`` does."""
        ...


@runtime_checkable
class SupportsSpans(Protocol):
    """A backend that gives spans back; no backend has to."""

    def spans(self, trace_ids: Sequence[str], limit: int) -> Sequence[SpanRecord]:
        """At most ``limit`` spans of these traces, the earliest first, each once."""
        ...


def check_known_groups(backend: Backend, group_by: Sequence[GroupBy]) -> None:
    """Raise :class:`QueryError` if ``backend`` cannot group by all of ``group_by``."""
    unknown = [name for name in group_by if name not in GROUPS]
    if unknown and not getattr(backend, "knows_conditions", False):
        raise QueryError(
            f"the backend {backend.name!r} groups by {', '.join(GROUPS)} only, not by {', '.join(unknown)}"
        )


def check_filters(backend: Backend, filters: Filters | None) -> None:
    """Raise :class:`QueryError` if ``backend`` does not know all that ``filters`` require."""
    if filters is not None and not filters.is_plain and not getattr(backend, "knows_conditions", False):
        keys = ", ".join(dict.fromkeys(condition.key for condition in filters.all_conditions()))
        raise QueryError(
            f"the backend {backend.name!r} ({backend.location}) knows only exact values of the plain keys, since and"
            f" until; these filters are about {keys}"
        )


Row = Mapping[str, Any]
