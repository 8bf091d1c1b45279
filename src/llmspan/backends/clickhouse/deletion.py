"""Deleting records in ClickHouse by mutations, which write parts anew without them, and waiting until that is done.

A lightweight DELETE would only hide rows. A record may have several rows (it came twice, or by a Collector, too), of
which queries show one: all of them go, also where only the shown one is meant. Its span in ``otel_traces`` goes first,
while the record that says which one is still there, and so do the spans that we wrote of traces that lose all records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..._clock import sleep
from ...errors import RetryableError
from ..query import Query
from ..rows import Cell
from .client import Client, quoted
from .otel import WRITTEN_SPAN, record_id
from .schema import ANNOTATIONS

__all__ = ["Deletion"]

#: seconds between two looks at a mutation: the first pause, and the longest
_PAUSES: Final = (0.02, 1.0)
#: bytes of ids in one statement; the server parses 256 KiB
_IDS_BYTES: Final = 100_000
#: seconds that the clocks of a cluster may differ
_SKEW: Final = 5


@dataclass(frozen=True, slots=True)
class Deletion:
    """One deletion: where, and which records."""

    client: Client
    cluster: str | None
    where: Query

    def run(self) -> int:
        """Delete the records, and return how many there were.

        Raises:
            RefusedError: this user may not.
            RetryableError: the server does not get on with it; it may go on by itself.
        """
        visible = self._count(f"{self._records} FINAL", self.where.sql)
        if not visible and not self._count(self._records, self.where.sql):
            return 0
        self._delete_spans()
        for ids in _chunks(self._with_other_rows()):
            self._mutate(self._local, f"id IN ({ids})", {})
        self._mutate(self._local, self.where.sql, self.where.values)
        self._delete_annotations()
        return visible

    def remove_annotations(self) -> bool:
        """Delete the annotations for which the condition holds; whether there were any."""
        count = self._count(self._annotations, self.where.sql)
        if count:
            self._mutate(self._local_of(ANNOTATIONS), self.where.sql, self.where.values)
        return count > 0

    def _delete_annotations(self) -> None:
        """Delete those of records and traces that are gone: the condition itself may have been about annotations."""
        if not self.client.rows(_TABLES, {"database": self.client.dsn.database, "name": ANNOTATIONS}):
            return
        terms: list[str] = []
        for column, key in (("record_id", "id"), ("trace_id", "trace_id")):
            annotated = f"SELECT coalesce({column}, '') FROM {self._annotations} WHERE {column} IS NOT NULL"  # noqa: S608 - all ours
            present = f"SELECT coalesce({key}, '') FROM {self._records} WHERE {key} GLOBAL IN ({annotated})"  # noqa: S608
            terms.append(f"({column} IS NOT NULL AND coalesce({column}, '') GLOBAL NOT IN ({present}))")
        condition = " OR ".join(terms)
        if self._count(self._annotations, condition):
            self._mutate(self._local_of(ANNOTATIONS), condition, {})

    def _with_other_rows(self) -> Sequence[str]:
        """The ids of records that are meant and have rows for which the condition does not hold."""
        ids = f"SELECT id FROM {self._records} FINAL WHERE {self.where.sql}"  # noqa: S608 - all ours
        rows = self.client.rows(
            f"SELECT DISTINCT id FROM {self._records} WHERE NOT coalesce({self.where.sql}, 0) AND id IN ({ids})",  # noqa: S608
            self.where.values,
        )
        return [row["id"] for row in rows]

    def _delete_spans(self) -> None:
        if not self.client.rows(_TABLES, {"database": self.client.dsn.database, "name": "otel_traces"}):
            return
        spans = self._table("otel_traces")
        condition = f"{record_id()} IN (SELECT id FROM {self._records} FINAL WHERE {self.where.sql})"  # noqa: S608 - all ours
        between = (
            f"{WRITTEN_SPAN} AND TraceId IN ({self._trace_ids(self.where.sql)})"
            f" AND TraceId NOT IN ({self._trace_ids(f'NOT coalesce({self.where.sql}, 0)')})"
        )
        for rows in (condition, between):
            if self.cluster or self._count(spans, rows):
                self._mutate(spans, rows, self.where.values)

    def _trace_ids(self, condition: str) -> str:
        """The query for the traces of the records for which ``condition`` holds."""
        return f"SELECT assumeNotNull(trace_id) FROM {self._records} FINAL WHERE {condition} AND isNotNull(trace_id)"  # noqa: S608

    def _mutate(self, table: str, condition: str, values: Mapping[str, Cell]) -> None:
        start = self._number("SELECT toUnixTimestamp(now()) AS number")
        on_cluster = f" ON CLUSTER {quoted(self.cluster)}" if self.cluster else ""
        self.client.command(
            f"ALTER TABLE {table}{on_cluster} DELETE WHERE {condition}", values,
            # it may take longer than an answer over HTTP; the table of the subquery does not change meanwhile
            {"mutations_sync": 0, "allow_nondeterministic_mutations": 1},
        )  # fmt: skip
        pause, longest = _PAUSES
        while unfinished := self._unfinished(table, start - _SKEW):
            if reason := next((row["latest_fail_reason"] for row in unfinished if row["latest_fail_reason"]), None):
                raise RetryableError(
                    f"ClickHouse {self.client.dsn.location}: the mutation {unfinished[0]['mutation_id']} of {table}"
                    f" fails ({reason.partition(chr(10))[0][:300]}) and is tried again by the server; look at"
                    " system.mutations"
                )
            sleep(pause)
            pause = min(2 * pause, longest)

    def _unfinished(self, table: str, since: int) -> Sequence[Mapping[str, Any]]:
        source = f"clusterAllReplicas({quoted(self.cluster)}, system.mutations)" if self.cluster else "system.mutations"
        name = table.rpartition(".")[2]
        return self.client.rows(
            f"SELECT mutation_id, latest_fail_reason FROM {source} WHERE database = {{database:String}}"  # noqa: S608
            " AND table = {name:String} AND NOT is_done AND NOT is_killed"
            " AND toUnixTimestamp(create_time) >= {since:Int64}",
            {"database": self.client.dsn.database, "name": name, "since": since},
        )

    def _count(self, table: str, condition: str) -> int:
        return self._number(f"SELECT count() AS number FROM {table} WHERE {condition}")  # noqa: S608 - all ours

    def _number(self, sql: str) -> int:
        (row,) = self.client.rows(sql, self.where.values)
        return int(row["number"])

    @property
    def _records(self) -> str:
        return self._table("provider_traces")

    @property
    def _annotations(self) -> str:
        return self._table(ANNOTATIONS)

    @property
    def _local(self) -> str:
        return self._local_of("provider_traces")

    def _local_of(self, name: str) -> str:
        return self._table(f"{name}_local" if self.cluster else name)

    def _table(self, name: str) -> str:
        return f"{quoted(self.client.dsn.database)}.{name}"


_TABLES: Final = "SELECT name FROM system.tables WHERE database = {database:String} AND name = {name:String}"


def _chunks(ids: Sequence[str]) -> Iterator[str]:
    """The ids as literals, in lists that a statement can hold."""
    literals: list[str] = []
    size = 0
    for name in ids:
        literal = "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
        size += len(literal.encode())
        if size > _IDS_BYTES and literals:
            yield ", ".join(literals)
            literals, size = [], len(literal.encode())
        literals.append(literal)
    if literals:
        yield ", ".join(literals)
