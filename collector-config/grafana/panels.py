"""The five dashboards: which panels there are and what each one asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from queries import FAILED, FIRST_CHUNK, MODEL, SECONDS, SPEED, Dialect, count_of, share_of

Kind = Literal["stat", "timeseries", "table"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: how it looks, and its query in a dialect."""

    title: str
    kind: Kind
    query: Callable[[Dialect], str]
    description: str = ""
    unit: str = ""
    units: Mapping[str, str] = field(default_factory=dict[str, str])
    links: bool = False
    size: tuple[int, int] = (0, 0)

    @property
    def width(self) -> int:
        return self.size[0] or {"stat": 4, "timeseries": 12, "table": 24}[self.kind]

    @property
    def height(self) -> int:
        return self.size[1] or {"stat": 4, "timeseries": 8, "table": 9}[self.kind]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One dashboard."""

    name: str
    title: str
    description: str
    panels: Sequence[Panel]
    filtered: bool = True
    priced: bool = False
    text_boxes: Mapping[str, str] = field(default_factory=dict[str, str])


USAGE: Final = Dashboard(
    name="usage",
    title="usage and cost",
    description="Calls, tokens and what they cost. Tokens are the provider's numbers; calls that reported none are"
    " counted apart. Cost is by the price list above, which you fill in, such as"
    ' {"claude-opus-5": {"input": 5, "cache_read": 0.5, "cache_write": 6.25, "cache_write_1h": 10,'
    ' "output": 25}}; a call that needs a price that is not in it has no cost, nor has one of another service tier.'
    " Prices change: mind the dates.",
    priced=True,
    panels=[
        Panel(title="Calls", kind="stat", unit="short", query=lambda d: d.one("count(*)")),
        Panel(title="Input tokens", kind="stat", unit="short", query=lambda d: d.one("sum(input_tokens)")),
        Panel(title="Output tokens", kind="stat", unit="short", query=lambda d: d.one("sum(output_tokens)")),
        Panel(title="Cost", kind="stat", unit="currencyUSD", query=lambda d: d.one(f"sum({d.cost})")),
        Panel(
            title="Calls without usage",
            kind="stat",
            unit="short",
            description="The provider reported no tokens, or the stream broke off before it did.",
            query=lambda d: d.one(count_of("usage_source <> 'provider'")),
        ),
        Panel(
            title="Calls without a price",
            kind="stat",
            unit="short",
            description="Their tokens are reported, and the price list has no price for their model, for one of their"
            " counts, or for their service tier.",
            query=lambda d: d.one(count_of(f"usage_source = 'provider' AND {d.cost} IS NULL")),
        ),
        Panel(
            title="Input tokens by model",
            kind="timeseries",
            unit="short",
            query=lambda d: d.over_time("sum(input_tokens) AS value", where="input_tokens IS NOT NULL", group=MODEL),
        ),
        Panel(
            title="Output tokens by model",
            kind="timeseries",
            unit="short",
            query=lambda d: d.over_time("sum(output_tokens) AS value", where="output_tokens IS NOT NULL", group=MODEL),
        ),
        Panel(
            title="Calls by status",
            kind="timeseries",
            unit="short",
            query=lambda d: d.over_time("count(*) AS value", group="status"),
        ),
        Panel(
            title="Cost per day and model",
            kind="timeseries",
            unit="currencyUSD",
            query=lambda d: (
                f"SELECT {d.day}, {MODEL} AS metric, sum({d.cost}) AS value\n{d.chosen}"
                f" AND {d.cost} IS NOT NULL\nGROUP BY 1, 2\nORDER BY 1, 2"
            ),
        ),
        Panel(
            title="By model",
            kind="table",
            units={"cost": "currencyUSD"},
            query=lambda d: d.by(
                f"provider AS provider_name, {MODEL} AS model",
                "count(*) AS calls",
                f"{count_of(FAILED)} AS failed",
                "sum(input_tokens) AS input",
                "sum(cache_read_tokens) AS cached",
                "sum(cache_write_tokens) AS written",
                "sum(output_tokens) AS output",
                "sum(reasoning_tokens) AS reasoning",
                f"sum({d.cost}) AS cost",
                order="calls DESC, 1, 2",
            ),
        ),
        Panel(
            title="Who uses most",
            kind="table",
            units={"cost": "currencyUSD"},
            query=lambda d: d.by(
                "coalesce(org_id, '') AS org, coalesce(agent_id, '') AS agent, coalesce(user_id, '') AS who",
                "count(*) AS calls",
                "sum(input_tokens) AS input",
                "sum(output_tokens) AS output",
                f"sum({d.cost}) AS cost",
                order="coalesce(sum(input_tokens), 0) + coalesce(sum(output_tokens), 0) DESC, 1, 2, 3",
                limit=20,
            ),
        ),
    ],
)

REPORTED: Final = "cache_read_tokens IS NOT NULL AND input_tokens IS NOT NULL"
HIT_RATIO: Final = share_of("sum(cache_read_tokens)", "sum(input_tokens)")
CACHE: Final = Dashboard(
    name="cache",
    title="cache efficiency",
    description="How much of the input came from the provider's prompt cache. The ratio is over the calls that"
    " reported cache reads; input includes what was read from the cache and written to it.",
    panels=[
        Panel(title="Hit ratio", kind="stat", unit="percentunit", query=lambda d: d.one(HIT_RATIO, REPORTED)),
        Panel(title="Read from cache", kind="stat", unit="short", query=lambda d: d.one("sum(cache_read_tokens)")),
        Panel(title="Written to cache", kind="stat", unit="short", query=lambda d: d.one("sum(cache_write_tokens)")),
        Panel(
            title="Read per token written",
            kind="stat",
            unit="short",
            description="Below 1 the cache costs more than it saves.",
            query=lambda d: d.one(share_of("sum(cache_read_tokens)", "sum(cache_write_tokens)")),
        ),
        Panel(
            title="Calls that did not report it",
            kind="stat",
            unit="short",
            query=lambda d: d.one(count_of("cache_read_tokens IS NULL")),
        ),
        Panel(
            title="Hit ratio by model",
            kind="timeseries",
            unit="percentunit",
            query=lambda d: d.over_time(f"{HIT_RATIO} AS value", where=REPORTED, group=MODEL),
        ),
        Panel(
            title="Read and written",
            kind="timeseries",
            unit="short",
            query=lambda d: d.over_time("sum(cache_read_tokens) AS read", "sum(cache_write_tokens) AS written"),
        ),
        Panel(
            title="By model",
            kind="table",
            units={"ratio": "percentunit"},
            query=lambda d: d.by(
                f"provider AS provider_name, {MODEL} AS model",
                "count(*) AS calls",
                "sum(input_tokens) AS input",
                "sum(cache_read_tokens) AS read",
                "sum(cache_write_tokens) AS written",
                f"{HIT_RATIO} AS ratio",
                where=REPORTED,
                order="input DESC, 1, 2",
            ),
        ),
        Panel(
            title="Runs that use the cache worst",
            kind="table",
            units={"ratio": "percentunit"},
            description="Runs of two calls or more, for there is nothing to be read at the first one.",
            query=lambda d: d.by(
                "run_id AS run",
                "count(*) AS calls",
                "sum(input_tokens) AS input",
                f"{HIT_RATIO} AS ratio",
                where=f"run_id IS NOT NULL AND {REPORTED}",
                order="ratio, 1",
                limit=20,
            ).replace("\nORDER BY", "\nHAVING count(*) > 1 AND sum(input_tokens) > 0\nORDER BY"),
        ),
    ],
)


def quantiles(value: str) -> Callable[[Dialect], str]:
    """p50, p95 and p99 of a value over time."""
    return lambda d: d.over_time(
        *(f"{d.quantile(share, value)} AS {name}" for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))),
        where=f"({value}) IS NOT NULL",
    )


LATENCY: Final = Dashboard(
    name="latency",
    title="latency",
    description="Time to first chunk runs from the start of the call, retries included, to the first event that"
    " carries output. Tokens per second are counted from there on.",
    panels=[
        Panel(title="Duration", kind="timeseries", unit="s", query=quantiles(SECONDS)),
        Panel(title="Time to first chunk", kind="timeseries", unit="s", query=quantiles(FIRST_CHUNK)),
        Panel(
            title="Time to first chunk by model, median",
            kind="timeseries",
            unit="s",
            query=lambda d: d.over_time(
                f"{d.quantile(0.5, FIRST_CHUNK)} AS value", where="time_to_first_chunk_ns IS NOT NULL", group=MODEL
            ),
        ),
        Panel(
            title="Output tokens per second by model, median",
            kind="timeseries",
            unit="short",
            query=lambda d: d.over_time(
                f"{d.quantile(0.5, SPEED)} AS value", where=f"({SPEED}) IS NOT NULL", group=MODEL
            ),
        ),
        Panel(
            title="By model",
            kind="table",
            units={"median": "s", "p95": "s", "first": "s"},
            query=lambda d: d.by(
                f"provider AS provider_name, {MODEL} AS model",
                "count(*) AS calls",
                f"{d.quantile(0.5, SECONDS)} AS median",
                f"{d.quantile(0.95, SECONDS)} AS p95",
                f"{d.quantile(0.5, FIRST_CHUNK)} AS first",
                f"{d.quantile(0.5, SPEED)} AS speed",
                order="calls DESC, 1, 2",
            ),
        ),
        Panel(
            title="Slowest calls",
            kind="table",
            links=True,
            units={"seconds": "s", "first": "s"},
            query=lambda d: d.rows(
                "id",
                "provider",
                f"{MODEL} AS model",
                "status",
                f"{SECONDS} AS seconds",
                f"{FIRST_CHUNK} AS first",
                "input_tokens",
                "output_tokens",
                order="duration_ns DESC, id",
                limit=20,
            ),
        ),
    ],
)

ERRORS: Final = Dashboard(
    name="errors",
    title="errors and retries",
    description="Failures are calls that ended in an error and streams that broke off. Cancelled calls and streams"
    " closed early are what the caller wanted.",
    panels=[
        Panel(
            title="Failure rate",
            kind="stat",
            unit="percentunit",
            query=lambda d: d.one(share_of(count_of(FAILED), "count(*)")),
        ),
        Panel(title="Failures", kind="stat", unit="short", query=lambda d: d.one(count_of(FAILED))),
        Panel(
            title="Broken-off streams",
            kind="stat",
            unit="short",
            query=lambda d: d.one(count_of("status = 'incomplete'")),
        ),
        Panel(
            title="Cancelled or closed early",
            kind="stat",
            unit="short",
            query=lambda d: d.one(count_of("status IN ('cancelled', 'closed_early')")),
        ),
        Panel(
            title="Retries",
            kind="stat",
            unit="short",
            description="Attempts beyond the first, by the SDK.",
            query=lambda d: d.one("sum(attempts - 1)", "attempts > 1"),
        ),
        Panel(
            title="Failure rate by provider",
            kind="timeseries",
            unit="percentunit",
            query=lambda d: d.over_time(f"{share_of(count_of(FAILED), 'count(*)')} AS value", group="provider"),
        ),
        Panel(
            title="Failures by type",
            kind="timeseries",
            unit="short",
            query=lambda d: d.over_time("count(*) AS value", where=FAILED, group="coalesce(error_type, status)"),
        ),
        Panel(
            title="Retries over time",
            kind="timeseries",
            unit="short",
            query=lambda d: d.over_time("sum(attempts - 1) AS retries", where="attempts > 1"),
        ),
        Panel(
            title="Failures by type, status and model",
            kind="table",
            query=lambda d: d.by(
                f"coalesce(error_type, status) AS error, coalesce(http_status, 0) AS http, {MODEL} AS model",
                "count(*) AS calls",
                f"{count_of('attempts > 1')} AS retried",
                where=FAILED,
                order="calls DESC, 1, 2, 3",
            ),
        ),
        Panel(
            title="Latest failures",
            kind="table",
            links=True,
            query=lambda d: d.rows(
                "id",
                "provider",
                f"{MODEL} AS model",
                "status",
                "error_type",
                "http_status",
                "attempts",
                "error_message",
                where=FAILED,
                order="id DESC",
                limit=50,
            ),
        ),
    ],
)

CALL: Final = Dashboard(
    name="call",
    title="one call",
    description="One call in detail, by its id, or the newest of a step by the step's id.",
    filtered=False,
    text_boxes={"id": "Call id", "step_id": "Step id"},
    panels=[
        Panel(
            title="The call",
            kind="table",
            size=(24, 4),
            units={"seconds": "s", "first": "s"},
            query=lambda d: (
                f"SELECT id, provider, operation, {MODEL} AS model, status, finish_reasons, error_type, http_status,"
                f" attempts, {SECONDS} AS seconds, {FIRST_CHUNK} AS first, input_tokens, cache_read_tokens,"
                " cache_write_tokens, output_tokens, reasoning_tokens, step_id, run_id, agent_id, trace_id\n"
                f"FROM {d.table}\nWHERE {d.named}\nORDER BY id DESC\nLIMIT 1"
            ),
        ),
        Panel(
            title="Request",
            kind="table",
            size=(12, 12),
            query=lambda d: (
                f"SELECT request_json AS request\nFROM {d.table}\nWHERE {d.named}\nORDER BY id DESC\nLIMIT 1"
            ),
        ),
        Panel(
            title="Response",
            kind="table",
            size=(12, 12),
            query=lambda d: (
                "SELECT response_json AS response, error_message AS error\n"
                f"FROM {d.table}\nWHERE {d.named}\nORDER BY id DESC\nLIMIT 1"
            ),
        ),
        Panel(
            title="All calls of the step",
            kind="table",
            links=True,
            units={"seconds": "s"},
            query=lambda d: (
                f"SELECT id, {MODEL} AS model, status, {SECONDS} AS seconds, input_tokens, output_tokens\n"
                f"FROM {d.table}\nWHERE step_id = ${{step_id:sqlstring}} OR step_id IN"
                f" (SELECT step_id FROM {d.table} WHERE id = ${{id:sqlstring}})\nORDER BY id"
            ),
        ),
        Panel(
            title="The run so far, call by call",
            kind="table",
            links=True,
            units={"seconds": "s"},
            description="Input grows with the conversation; the sums are what the run has used up to each call.",
            query=lambda d: (
                f"SELECT id, step_id, {MODEL} AS model, status, {SECONDS} AS seconds, input_tokens, output_tokens,"
                " sum(coalesce(input_tokens, 0)) OVER (ORDER BY id) AS input_so_far,"
                " sum(coalesce(output_tokens, 0)) OVER (ORDER BY id) AS output_so_far\n"
                f"FROM {d.table}\nWHERE run_id IN (SELECT run_id FROM {d.table} WHERE {d.named})\nORDER BY id"
            ),
        ),
    ],
)

DASHBOARDS: Final = (USAGE, CACHE, LATENCY, ERRORS, CALL)
