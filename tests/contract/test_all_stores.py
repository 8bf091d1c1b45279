"""All interactions, through the whole of llmspan, into all stores at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import llmspan
from interaction import Interaction, interaction_ids
from llmspan import Reader, lifecycle
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.trace import ProviderTrace
from replay import replay_sync
from stores import clickhouse, postgres
from stores.sidecar import RunningSidecar, short_directory

BACKENDS = "postgres,clickhouse,socket,sqlite"


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where each backend writes; the sidecar at the end of the socket has a file of its own."""
    lifecycle.close(30)
    with short_directory() as directory:
        sidecar = RunningSidecar(directory / "s.sock", SQLiteBackend(tmp_path / "sidecar.db"))
        yield {
            "postgres_dsn": postgres.new_schema(),
            "clickhouse_dsn": clickhouse.server_dsn(),
            "socket": str(directory / "s.sock"),
            "sqlite_path": str(tmp_path / "traces.db"),
            "clickhouse_ttl": "none",  # a recorded background response has the time of its recording
        }
        lifecycle.close(30)
        sidecar.stop()


def stored(**settings: str) -> dict[str, ProviderTrace]:
    """All that a store holds, with payloads, by id."""
    with Reader.from_env(**settings) as reader:
        found = [reader.get(trace.id) for trace in reader.iterate()]
    return {trace.id: trace for trace in found if trace is not None}


@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")  # the SDK's own
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_all_interactions_into_all_stores(places: dict[str, str], tmp_path: Path) -> None:
    """Each call is one record in Postgres, ClickHouse, behind the socket and in SQLite, and the same in all."""
    llmspan.instrument(backends=BACKENDS, queue_max_bytes="1GiB", **places)
    for name in interaction_ids():
        with suppress(Exception):  # what errors raise is looked at in test_interactions
            replay_sync(Interaction.load(name))
    assert llmspan.flush(300)
    for status in llmspan.status():
        assert (status.accepted, status.delivered, status.queued) == (len(interaction_ids()), len(interaction_ids()), 0)
    reference = stored(backends="sqlite", sqlite_path=places["sqlite_path"])
    assert len(reference) == len(interaction_ids())
    assert stored(backends="postgres", postgres_dsn=places["postgres_dsn"]) == reference
    assert stored(backends="clickhouse", clickhouse_dsn=places["clickhouse_dsn"]) == reference
    assert stored(backends="sqlite", sqlite_path=str(tmp_path / "sidecar.db")) == reference
