"""Sums and latencies of calls, by any key and over time: charts, and a table with the same numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any, Final, Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..._clock import HOUR, SECOND
from ..._guard import exception_of
from ...backends.base import Filters, StatsRow
from ...bills import Bill
from ...cost import EXACT, available
from ...query.keys import ATTRIBUTES, KEY_OF_NAME
from ...query.statistics import PERIODS
from ...reader import Reader
from ..costs import bill_text
from ..filtering import bounded_query, everything_query, filters_of
from ..rendering import query_string, render, store_of, term

__all__ = ["series", "usage", "usage_json"]

#: what the page offers to group by; the address takes any key
GROUPS: Final = ("model", "provider", "user_id", "agent_id", "run_id", "operation", "status", "tag", "source")
_MOST_ROWS: Final = 200
#: of more calls, costs and latencies take seconds, and come when the sums are there
_AT_ONCE: Final = 10_000
#: of more calls than this, the sums themselves come after the page
_SUMS_AT_ONCE: Final = 50_000
_STATUSES: Final = ("ok", "closed_early", "cancelled", "incomplete", "error")
#: a chart of days shows at least as many, one of hours and of weeks at most
_HOURS: Final = 72
_DAYS: Final = 120


@dataclass(frozen=True, slots=True)
class Group:
    """A row of the table; ``address`` has the calls of the group, if there is such a page."""

    name: str
    address: str | None
    stats: StatsRow
    cost: str


#: what a page has: the number of calls, their sums, or costs and latencies too; each asks for the next one
Stage = Literal["count", "sums", "complete"]


class _Sums(NamedTuple):
    calls: int
    total: StatsRow | None
    rows: Sequence[StatsRow]
    costs: Mapping[tuple[str | None, ...], Bill]
    cost: Bill | None
    stage: Stage = "complete"


async def usage(request: Request) -> Response:
    """The page of sums."""
    query, by = bounded_query(request), request.query_params.get("by") or GROUPS[0]
    filters = filters_of(request, query)
    wanted: Stage = "complete" if request.query_params.get("complete") == "1" else "count"
    if request.query_params.get("sums") == "1":
        wanted = "sums"
    sums = await store_of(request).run(lambda reader: _read(reader, filters, by, wanted))
    groups = [Group(*_name(query, by, row), row, bill_text(sums.costs.get((row.group[by],)))) for row in sums.rows]
    groups.sort(key=lambda group: -group.stats.calls)
    values: dict[str, Any] = {
        "query": query,
        "by": by,
        "groups": groups[:_MOST_ROWS],
        "left_out": len(groups[_MOST_ROWS:]),
        "everything": everything_query(request, query),
    }
    values |= {"calls": sums.calls, "total": sums.total, "total_cost": bill_text(sums.cost), "offered": GROUPS}
    values |= {"stage": sums.stage, "is_complete": sums.stage == "complete"}
    return render(request, "usage.html", values)


async def usage_json(request: Request) -> Response:
    """The same numbers as ``llmspan stats --json`` prints them."""
    by, filters = request.query_params.get("by") or GROUPS[0], filters_of(request)
    rows = await store_of(request).run(lambda reader: reader.stats([by], filters, measures=True))
    return JSONResponse({"groups": [_plain(row) for row in rows]})


def _read(reader: Reader, filters: Filters, by: str, wanted: Stage) -> _Sums:
    """What is ``wanted`` of the sums, or more of it if the calls are few."""
    if wanted != "complete" and (calls := reader.count(filters)) > _AT_ONCE:
        if wanted == "count" and calls > _SUMS_AT_ONCE:
            return _Sums(calls, None, (), {}, None, "count")
        (total,) = reader.stats((), filters)
        return _Sums(total.calls, total, reader.stats([by], filters), {}, None, "sums")
    (total,) = reader.stats((), filters, measures=True)
    rows = reader.stats([by], filters, measures=True)
    if not available(reader.own_prices):
        return _Sums(total.calls, total, rows, {}, None)
    costs = reader.costs([by], filters)
    # a call with two tags is in two groups: the groups together may cost more than the calls
    is_partition = sum(row.calls for row in rows) == total.calls
    cost = _together(costs) if is_partition else reader.costs((), filters).get(())
    return _Sums(total.calls, total, rows, costs, cost)


def _together(costs: Mapping[tuple[str | None, ...], Bill]) -> Bill:
    bill = Bill()
    for one in costs.values():
        bill.unpriced.update(one.unpriced)
        bill.priced += one.priced
        for currency, amount in one.amounts.items():
            with localcontext(EXACT):
                bill.amounts[currency] = bill.amounts.get(currency, Decimal(0)) + amount
    return bill


def _plain(row: StatsRow) -> dict[str, Any]:
    return {**asdict(row), "group": dict(row.group), "details": dict(row.details)}


def _name(query: str, by: str, row: StatsRow) -> tuple[str, str | None]:
    """The name of a group, and the address of its calls; None if no term means them (a period, an object)."""
    value = row.group[by]
    key = by if KEY_OF_NAME.get(by) else f'{ATTRIBUTES}"{by.removeprefix(ATTRIBUTES)}"'
    group = f"{key}:none" if value is None else term(key, value)
    error = exception_of(Filters.parse, group)
    address = None if error is not None or by in PERIODS else f"/{query_string(q=query, group=group)}"
    return value if value is not None else "none", address


async def series(request: Request) -> Response:
    """The calls that a filter means over time: by status, by kind of token, and how long they took."""
    filters, has_measures = filters_of(request), "calls" not in request.query_params
    return JSONResponse(await store_of(request).run(lambda reader: _series(reader, filters, has_measures=has_measures)))


def _series(reader: Reader, filters: Filters, *, has_measures: bool) -> dict[str, Any]:
    period = _period(reader, filters)
    rows = reader.stats([period], filters, measures=has_measures, fill=True)
    by_status = {
        (row.group[period], row.group["status"]): row.calls for row in reader.stats([period, "status"], filters)
    }
    times = [row.group[period] or "" for row in rows]
    return {
        "period": period,
        "times": [_seconds(text) for text in times],
        "status": {status: [by_status.get((text, status), 0) for text in times] for status in _STATUSES},
        "tokens": {
            "input": [row.input_tokens for row in rows],
            "cached": [row.cache_read_tokens for row in rows],
            "output": [row.output_tokens for row in rows],
            "reasoning": [row.reasoning_tokens for row in rows],
        },
        "duration": _milliseconds(rows, "duration_ns"),
        "first chunk": _milliseconds(rows, "time_to_first_chunk_ns"),
    }


def _milliseconds(rows: Sequence[StatsRow], name: str) -> dict[str, list[float | None]]:
    values = {f"p{percent}": [_measure(row, f"{name}_p{percent}") for row in rows] for percent in (50, 95, 99)}
    return {key: [None if v is None else v / 1_000_000 for v in column] for key, column in values.items()}


def _measure(row: StatsRow, name: str) -> int | None:
    return None if row.measures is None else getattr(row.measures, name)


def _period(reader: Reader, filters: Filters) -> str:
    """Hours, days or weeks, so that the chart has enough bars and not too many."""
    first, last = _bounds(reader, filters)
    hours = (last - first) // HOUR
    return "hour" if hours <= _HOURS else "day" if hours <= _DAYS * 24 else "week"


def _bounds(reader: Reader, filters: Filters) -> tuple[int, int]:
    """From when to when the calls are, at least roughly."""
    last = time.time_ns() if filters.until is None else filters.until
    if filters.since is not None:
        return filters.since, last
    days = [row.group["day"] or "" for row in reader.stats(["day"], filters)]
    return (_seconds(min(days)) * SECOND, last) if days else (last, last)


def _seconds(text: str) -> int:
    """The beginning of a period, as a group is named by it, in seconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
