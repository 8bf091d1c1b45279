"""The tables in ClickHouse: their statements, one machine or a cluster, and whether they are there.

The statements are text made from the files in ``sql/clickhouse`` and a few settings. A table that is not ours is never
changed: it is looked at first, and every refusal names the place and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from typing import Final

from ...errors import RefusedError, SchemaError, SettingsError
from ...trace import KEYS
from .client import Client, quoted
from .errors import MissingError
from .otel import view_columns, view_condition

__all__ = ["ANNOTATIONS", "LAST_TIMESTAMP", "VERSION", "Schema"]

#: the newest schema, that of the last numbered file
VERSION: Final = 1
#: the last time of the column ``timestamp``, which stands for later ones too: 2100-01-01, in nanoseconds
LAST_TIMESTAMP: Final = 4_102_444_800_000_000_000

_ENGINE: Final = re.compile(r"(Replicated|Shared)?ReplacingMergeTree\s*(?:\((.*)\))?", re.DOTALL)
_REPLICA: Final = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
_TABLES: Final = "SELECT name, comment FROM system.tables WHERE database = {database:String}"
#: the table of notes and scores, without which records are written and read all the same
ANNOTATIONS: Final = "llmspan_annotations"
_COLUMNS: Final = "SELECT name FROM system.columns WHERE database = {database:String} AND table = 'provider_traces'"
_TTL: Final = (
    "SELECT name, extract(engine_full, ' TTL (.*?) SETTINGS') AS ttl FROM system.tables"
    " WHERE database = {database:String} AND name IN ('provider_traces', 'provider_traces_local',"
    " 'llmspan_annotations', 'llmspan_annotations_local')"
    " AND engine LIKE '%ReplacingMergeTree'"
)
_DATABASES: Final = "SELECT name FROM system.databases WHERE name = {database:String}"


_DAY_SECONDS: Final = 86_400
#: a day before the end of 32 bits, as a day may have 25 hours where the server is
_LAST_SECOND: Final = 2**32 - 1 - _DAY_SECONDS
#: as long as this, no record's time, which is before 2100 or taken for it, goes beyond that
_PLAIN_TTL_DAYS: Final = (_LAST_SECOND - 4_102_444_800) // _DAY_SECONDS
_LONGEST_TTL_DAYS: Final = _LAST_SECOND // _DAY_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a database must hold."""

    database: str
    cluster: str | None = None
    engine: str | None = None
    ttl_days: int | None = None
    otel_traces: bool = False
    #: of the server: the Collector's exporter makes other indexes from 26.2 on
    version: str = "26.2"

    def statements(self) -> dict[str, str]:
        """The statement that makes each table, by the table's name, in the order in which they can be made.

        Raises:
            SettingsError: the engine is not one for records.
        """
        local = "provider_traces" if self.cluster is None else "provider_traces_local"
        definitions = {
            local: self._fill(
                "0001_provider_traces.sql", table=local, engine=self._replacing(), ttl=self._ttl("timestamp")
            )
        }
        definitions |= self._distributed("provider_traces")
        definitions |= self._annotations()
        return definitions | self._spans() if self.otel_traces else definitions

    def _annotations(self) -> dict[str, str]:
        local = ANNOTATIONS if self.cluster is None else f"{ANNOTATIONS}_local"
        definition = self._fill(
            f"{ANNOTATIONS}.sql", table=local, engine=self._like("ReplacingMergeTree"), ttl=self._ttl("timestamp")
        )
        return {local: definition} | self._distributed(ANNOTATIONS)

    def _distributed(self, table: str) -> dict[str, str]:
        """The table in front of those of the shards, on a cluster."""
        if self.cluster is None:
            return {}
        return {table: self._fill("distributed.sql", table=table, cluster=quoted(self.cluster))}

    def _spans(self) -> dict[str, str]:
        """The tables of the Collector's exporter, and the view that makes records of what it writes."""
        engines = {
            "otel_traces": self._like("MergeTree"),
            "otel_traces_trace_id_ts": self._like("AggregatingMergeTree"),
        }
        ttls = {"otel_traces": self._ttl("Timestamp"), "otel_traces_trace_id_ts": self._ttl("Start")}
        tables = {
            name: self._fill(f"{name}.sql", engine=engine, ttl=ttls[name], indexes=self._indexes())
            for name, engine in engines.items()
        }
        return tables | {
            "otel_traces_trace_id_ts_mv": self._fill("otel_traces_trace_id_ts_mv.sql"),
            "provider_traces_from_otel": self._fill(
                "provider_traces_from_otel.sql", columns=view_columns(), condition=view_condition()
            ),
        }

    def missing(self, client: Client) -> Sequence[str]:
        """The tables that are not there.

        Raises:
            MissingError: not even the database is there.
            SchemaError: a table of that name is not ours, or was made by a newer version.
        """
        comments = {row["name"]: row["comment"] for row in client.rows(_TABLES, {"database": self.database})}
        if not comments and not client.rows(_DATABASES, {"database": self.database}):
            raise MissingError(
                f"ClickHouse {client.dsn.location}: there is no database {self.database}; make it with"
                " `llmspan migrate --backend clickhouse`"
            )
        for name in ("provider_traces", "provider_traces_local"):
            self._check_version(client, name, comments.get(name, ""))
        if "provider_traces" in comments:
            self._check_columns(client)
        return [name for name in self.statements() if name not in comments]

    def make(self, client: Client, *, needs_all: bool = True) -> Sequence[str]:
        """Make what is missing; the names of what was made. Unless it ``needs_all``, annotations may be missing.

        Raises:
            SettingsError: this user may not.
            SchemaError: a table of that name is not ours, or was made by a newer version.
        """
        created: list[str] = []
        try:
            missing = self.missing(client)
        except MissingError:
            client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(self.database)}{self._on_cluster()}")
            created.append(f"database {self.database}")
            missing = self.missing(client)
        statements = self.statements()
        for name in missing:
            try:
                client.command(statements[name])
            except RefusedError:
                if needs_all or not name.startswith(ANNOTATIONS):
                    raise
                continue
            created.append(name)
        if created:
            client.reopen()
        return created

    def keep(self, client: Client) -> Sequence[str]:
        """Let records be kept for as long as the settings say; what was changed."""
        created: list[str] = []
        for row in client.rows(_TTL, {"database": self.database}):
            days = self._ttl_days
            if _ttl_of(row["ttl"]) != (None if days is None else (days, days > _PLAIN_TTL_DAYS)):
                change = f"MODIFY {self._ttl('timestamp')}" if days is not None else "REMOVE TTL"
                table = f"{quoted(self.database)}.{row['name']}{self._on_cluster()}"
                client.command(f"ALTER TABLE {table} {change}")
                created.append(f"{row['name']}: {change}")
        return created

    def _check_version(self, client: Client, table: str, comment: str) -> None:
        version = re.fullmatch(r"llmspan (\d+)", comment)
        if version and int(version[1]) > VERSION:
            raise SchemaError(
                f"ClickHouse {client.dsn.location}: the schema of {table} is version {version[1]}, this llmspan"
                f" supports {VERSION}; upgrade llmspan, or name another database"
            )

    def _check_columns(self, client: Client) -> None:
        columns = {row["name"] for row in client.rows(_COLUMNS, {"database": self.database})}
        lacking = [key for key in (*KEYS, "timestamp", "precedence") if key not in columns]
        if lacking:
            raise SchemaError(
                f"ClickHouse {client.dsn.location}: the table provider_traces is not one of llmspan (it has no column"
                f" {lacking[0]}), and is left as it is; name another database"
            )

    def _fill(self, file: str, **values: str) -> str:
        values = {"database": quoted(self.database), "on_cluster": self._on_cluster(), **values}
        return _tidy(_template(file).substitute(values))

    def _on_cluster(self) -> str:
        return f" ON CLUSTER {quoted(self.cluster)}" if self.cluster is not None else ""

    def _ttl(self, column: str) -> str:
        """When records go, by the server's clock. Beyond the last ``DateTime`` sums begin anew, and all would go."""
        days = self._ttl_days
        if days is None:
            return ""
        if days <= _PLAIN_TTL_DAYS:
            return f"TTL toDateTime({column}) + INTERVAL {days:d} DAY"
        latest = _LAST_SECOND - days * _DAY_SECONDS
        return f"TTL toDateTime(least(toUnixTimestamp({column}), {latest:d})) + INTERVAL {days:d} DAY"

    @property
    def _ttl_days(self) -> int | None:
        """None also for a time that reaches past all that a ``DateTime`` can say."""
        return self.ttl_days if self.ttl_days is not None and self.ttl_days <= _LONGEST_TTL_DAYS else None

    def _indexes(self) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", self.version)[:2]]
        indexes = _TEXT_INDEXES if numbers >= [26, 2] else _BLOOM_INDEXES
        return ",\n    ".join(f"INDEX {name} {what}" for name, what in indexes.items())

    def _like(self, kind: str) -> str:
        """An engine of ``kind`` that replicates as the records' engine does."""
        prefix, parameters = _parts(self._replacing())
        return f"{prefix}{kind}({', '.join(parameters[:2])})" if len(parameters) > 2 else f"{prefix}{kind}"

    def _replacing(self) -> str:
        """The engine of the records; whatever it replicates by, the version column is ours."""
        if self.engine is None:
            return f"ReplicatedReplacingMergeTree({_REPLICA}, precedence)" if self.cluster else _ONE_MACHINE
        prefix, parameters = _parts(self.engine)
        if not parameters or parameters[-1] != "precedence":
            parameters.append("precedence")
        return f"{prefix}ReplacingMergeTree({', '.join(parameters)})"


def _ttl_of(expression: str) -> tuple[int, bool] | None:
    """The days of a table's TTL, and whether its sum is bounded; None if it has none, or one that we do not write."""
    column = r"toDateTime\((?:\w+|(least)\(toUnixTimestamp\(\w+\), \d+\))\)"
    match = re.search(rf"{column} \+ toIntervalDay\((\d+)\)", expression)
    return (int(match[2]), match[1] is not None) if match else None


def _parts(engine: str) -> tuple[str, list[str]]:
    """How an engine replicates, and its parameters."""
    match = _ENGINE.fullmatch(engine.strip())
    if match is None:
        raise SettingsError(
            f"LLMSPAN_CLICKHOUSE_ENGINE={engine}: expected a ReplacingMergeTree, which keeps a record that comes twice"
            f" once, such as ReplicatedReplacingMergeTree({_REPLICA})"
        )
    return match[1] or "", [part.strip() for part in (match[2] or "").split(",") if part.strip()]


_ONE_MACHINE: Final = "ReplacingMergeTree(precedence)"
_TEXT: Final = "TYPE text(tokenizer = 'array')"
_TEXT_INDEXES: Final = {
    "idx_trace_id": f"TraceId {_TEXT}",
    "idx_res_attr_key": f"mapKeys(ResourceAttributes) {_TEXT}",
    "idx_res_attr_items": f"ResourceAttributeItems {_TEXT}",
    "idx_span_attr_key": f"mapKeys(SpanAttributes) {_TEXT}",
    "idx_span_attr_items": f"SpanAttributeItems {_TEXT}",
}
_BLOOM: Final = "TYPE bloom_filter(0.01) GRANULARITY 1"
_BLOOM_INDEXES: Final = {
    "idx_trace_id": "TraceId TYPE bloom_filter(0.001) GRANULARITY 1",
    "idx_res_attr_key": f"mapKeys(ResourceAttributes) {_BLOOM}",
    "idx_res_attr_value": f"mapValues(ResourceAttributes) {_BLOOM}",
    "idx_span_attr_key": f"mapKeys(SpanAttributes) {_BLOOM}",
    "idx_span_attr_value": f"mapValues(SpanAttributes) {_BLOOM}",
}


@cache
def _template(file: str) -> Template:
    text = files("llmspan.backends.clickhouse").joinpath("sql", file).read_text("utf-8")
    return Template("".join(line for line in text.splitlines(keepends=True) if not line.startswith("--")))


def _tidy(sql: str) -> str:
    """Without the lines that an empty value left."""
    return "\n".join(line for line in sql.splitlines() if line.strip())
