"""The queries of the dashboards: each one once, in the dialects of the two data sources.

A query reads `provider_traces` as llmspan's backends make it (docs/record.md). Grafana's macros and variables stay in
the text: they are what makes a panel follow the time range and the filters above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MODEL: Final = "coalesce(response_model, request_model, 'unknown')"
FAILED: Final = "status IN ('error', 'incomplete')"
SECONDS: Final = "duration_ns / 1e9"
FIRST_CHUNK: Final = "time_to_first_chunk_ns / 1e9"
#: calls at the list price whose usage is known
LISTED: Final = (
    "usage_source = 'provider' AND coalesce(service_tier, '') IN"
    " ('', 'auto', 'default', 'on_demand', 'standard', 'standard_only')"
)
#: output tokens per second after the first chunk
GENERATING: Final = "(duration_ns - time_to_first_chunk_ns)"
SPEED: Final = f"CASE WHEN {GENERATING} > 0 THEN output_tokens / ({GENERATING} / 1e9) END"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the data sources."""

    name: str
    datasource: str
    table: str
    time: str
    bucket: str
    day: str
    filters: str
    model_variable: str
    provider_variable: str

    def quantile(self, share: float, value: str) -> str:
        """An interpolated quantile."""
        if self.name == "clickhouse":
            return f"quantileExactInclusive({share})({value})"
        return f"percentile_cont({share}) WITHIN GROUP (ORDER BY {value})"

    def price(self, kind: str) -> str:
        """USD per million tokens of the call's model, from the price list above the dashboard."""
        if self.name == "clickhouse":
            return f"JSONExtract(${{prices:sqlstring}}, {MODEL}, '{kind}', 'Nullable(Float64)')"
        return f"((${{prices:sqlstring}})::json -> {MODEL} ->> '{kind}')::float8"

    @property
    def long_writes(self) -> str:
        """Tokens that were written to the cache for an hour, which has a price of its own."""
        key = "cache_write_1h_tokens"
        if self.name == "clickhouse":
            return f"coalesce(JSONExtract(coalesce(usage_details, ''), '{key}', 'Nullable(Int64)'), 0)"
        return f"coalesce((usage_details ->> '{key}')::bigint, 0)"

    @property
    def cost(self) -> str:
        """USD, NULL where `llmspan.cost_of` with these prices knows none either.

        Cache reads and writes are part of the input, at prices of their own. No usage, a service tier that is not the
        list price's, and a count without a price have no cost.
        """
        read, written = "coalesce(cache_read_tokens, 0)", "coalesce(cache_write_tokens, 0)"
        counts = {
            "input": f"(input_tokens - {read} - {written})",
            "cache_read": read,
            "cache_write": f"({written} - {self.long_writes})",
            "cache_write_1h": self.long_writes,
            "output": "coalesce(output_tokens, 0)",
        }
        terms = [
            f"CASE WHEN {count} > 0 THEN {count} * {self.price(kind)} WHEN {count} = 0 THEN 0 END"
            for kind, count in counts.items()
        ]
        return f"CASE WHEN {LISTED} THEN ({' + '.join(terms)}) / 1e6 END"

    @property
    def chosen(self) -> str:
        """The rows of the time range and the filters."""
        return f"FROM {self.table}\nWHERE {self.time} AND {self.filters}"

    @property
    def named(self) -> str:
        """The call that the dashboard of one call is about: by id, or the newest of a step."""
        return "(id = ${id:sqlstring} OR (${id:sqlstring} = '' AND step_id = ${step_id:sqlstring}))"

    def over_time(self, *columns: str, where: str = "", group: str = "") -> str:
        """A time series; with ``group``, one for each of its values."""
        names = [self.bucket, *([f"{group} AS metric"] if group else []), *columns]
        keys = "1, 2" if group else "1"
        more = f" AND {where}" if where else ""
        return f"SELECT {', '.join(names)}\n{self.chosen}{more}\nGROUP BY {keys}\nORDER BY {keys}"

    def by(self, group: str, *columns: str, where: str = "", order: str, limit: int = 0) -> str:
        """A table with a row for each value of ``group``, a list of expressions with names."""
        more = f" AND {where}" if where else ""
        keys = ", ".join(str(n + 1) for n in range(group.count(" AS ")))
        end = f"\nLIMIT {limit}" if limit else ""
        return f"SELECT {group}, {', '.join(columns)}\n{self.chosen}{more}\nGROUP BY {keys}\nORDER BY {order}{end}"

    def one(self, value: str, where: str = "") -> str:
        """A single number."""
        more = f" AND {where}" if where else ""
        return f"SELECT {value} AS value\n{self.chosen}{more}"

    def rows(self, *columns: str, where: str = "", order: str, limit: int) -> str:
        """Single calls."""
        more = f" AND {where}" if where else ""
        return f"SELECT {', '.join(columns)}\n{self.chosen}{more}\nORDER BY {order}\nLIMIT {limit}"


CLICKHOUSE: Final = Dialect(
    name="clickhouse",
    datasource="grafana-clickhouse-datasource",
    table="provider_traces FINAL",
    time="$__timeFilter(timestamp)",
    bucket="toStartOfInterval(timestamp, toIntervalSecond($__interval_s)) AS time",
    day="toStartOfDay(timestamp, 'UTC') AS time",
    filters=(
        "$__conditionalAll(provider IN (${provider:singlequote}), $provider)"
        f" AND $__conditionalAll({MODEL} IN (${{model:singlequote}}), $model)"
    ),
    model_variable=f"SELECT DISTINCT {MODEL} FROM provider_traces WHERE $__timeFilter(timestamp) ORDER BY 1",
    provider_variable="SELECT DISTINCT provider FROM provider_traces WHERE $__timeFilter(timestamp) ORDER BY 1",
)
POSTGRES: Final = Dialect(
    name="postgres",
    datasource="grafana-postgresql-datasource",
    table="provider_traces",
    time="$__timeFilter(started_at)",
    bucket="$__timeGroupAlias(started_at, $__interval)",
    day="date_trunc('day', started_at, 'UTC') AS time",
    filters=f"provider IN (${{provider:sqlstring}}) AND {MODEL} IN (${{model:sqlstring}})",
    model_variable=f"SELECT DISTINCT {MODEL} FROM provider_traces WHERE $__timeFilter(started_at) ORDER BY 1",
    provider_variable="SELECT DISTINCT provider FROM provider_traces WHERE $__timeFilter(started_at) ORDER BY 1",
)
DIALECTS: Final = (CLICKHOUSE, POSTGRES)


def share_of(part: str, whole: str) -> str:
    """``part`` as a share of ``whole``, NULL where there is nothing of it."""
    return f"1.0 * {part} / nullif({whole}, 0)"


def count_of(condition: str) -> str:
    """How many rows fulfil a condition."""
    return f"sum(CASE WHEN {condition} THEN 1 ELSE 0 END)"
