"""ClickHouse over HTTP when something goes wrong: nothing lost, nothing twice, and each failure of the right kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.errors import PermanentError, RefusedError, RetryableError, SchemaError, SettingsError, ThrottledError
from llmspan.trace import ProviderTrace
from records import NOON, make_trace
from stores import clickhouse, clickhouse_http, shutting_down
from stores.clickhouse_http import Front

pytestmark = pytest.mark.skipif(clickhouse.SERVER is not None, reason="faults are those of the front for the engine")


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front(clickhouse.engine())
    front.start()
    yield front
    front.stop()


def a_backend(front: Front, **settings: Any) -> ClickHouseBackend:
    dsn = front.dsn(clickhouse.new_database(), "someone:secret@")
    return ClickHouseBackend.from_settings(clickhouse.settings(dsn, **{"write_timeout": 20.0} | settings))


@pytest.fixture
def backend(front: Front) -> Iterator[ClickHouseBackend]:
    with shutting_down(a_backend(front)) as backend:
        backend.open()
        yield backend


def some(count: int = 20) -> list[ProviderTrace]:
    return [make_trace(id=f"id-{at:02}", started_at=NOON + at) for at in range(count)]


def stored(backend: ClickHouseBackend) -> int:
    """The rows that are in the table, FINAL or not."""
    (row,) = backend._client().rows(f"SELECT count() AS n FROM {backend._table('provider_traces')}")
    return row["n"]


def ids(backend: ClickHouseBackend) -> list[str]:
    return [trace.id for trace in reversed(backend.list(limit=1000).traces)]


# -- nothing twice


def test_reset_after_execute(front, backend):
    """The driver replays an insert whose answer was lost, and the rows are there once, merged or not."""
    records = some()
    with front.failing(clickhouse_http.drop) as fault:
        backend.write(records)
    assert fault.met == 1
    assert front.count("INSERT") == 2
    assert stored(backend) == len(records)
    assert backend.stats([])[0].calls == len(records)


def test_token_is_the_batchs(front, backend):
    """The same records in the same order have the same token, replayed by the driver or sent again; others another."""
    with front.failing(clickhouse_http.drop):
        backend.write(some())
    backend.write(some())
    backend.write(some()[:-1])
    backend.write(some()[::-1])
    first, replayed, again, fewer, reversed_ = front.tokens
    assert first is not None
    assert first == replayed == again
    assert len({first, fewer, reversed_}) == 3


def test_reset_after_execute_until_given_up(front, backend):
    """Where the answer is lost again and again, the same batch may be written again later, and is there once."""
    records = some()
    with front.failing(clickhouse_http.drop, times=2), pytest.raises(RetryableError):
        backend.write(records)
    backend.write(records)
    assert front.count("INSERT") == 3
    assert stored(backend) == len(records)


def test_reset_before_execute(front, backend):
    """A connection that is lost before anything happened loses nothing."""
    records = some()
    with front.failing(clickhouse_http.drop_before):
        backend.write(records)
    assert stored(backend) == len(records)


def test_other_batch_boundaries(backend):
    """Records that come again in other batches are stored once for every reader, however the table holds them."""
    records = some()
    backend.write(records[:15])
    backend.write(records[10:])
    backend.write(records[::-1])
    assert stored(backend) > len(records)  # the point: FINAL has something to do
    assert ids(backend) == [trace.id for trace in records]
    assert (backend.stats([])[0].calls, backend.stats([])[0].input_tokens) == (20, 200)
    assert backend.ids_with_prefix("id-", 100) == [trace.id for trace in records]


def test_merging_keeps_the_first(backend):
    """After a merge, too, it is the first delivery that is there."""
    backend.write([make_trace(id="x", step_id="first")])
    backend.write([make_trace(id="x", step_id="second")])
    backend._client().command(f"OPTIMIZE TABLE {backend._table('provider_traces')} FINAL")
    assert stored(backend) == 1
    assert backend.get("x").step_id == "first"


# -- nothing lost, and what kind of failure


def test_unavailable(front, backend):
    """503 is to be tried again; nothing was stored, and the next try stores it."""
    with front.failing(clickhouse_http.status(503)), pytest.raises(RetryableError) as caught:
        backend.write(some())
    assert not isinstance(caught.value, ThrottledError)
    assert stored(backend) == 0
    backend.write(some())
    assert ids(backend) == [trace.id for trace in some()]


def test_too_many_requests(front, backend):
    """429 is to be tried again after a pause."""
    with front.failing(clickhouse_http.status(429)), pytest.raises(ThrottledError) as caught:
        backend.write(some())
    assert caught.value.delay > 0


@pytest.mark.parametrize("fault", [clickhouse_http.hang, clickhouse_http.drip])
def test_no_end(front, fault):
    """A write that does not end, silent or dripping, is given up after its time, and says which setting that is."""
    with shutting_down(a_backend(front, write_timeout=0.5)) as backend:
        backend.open()
        with (
            front.failing(fault, times=9),
            pytest.raises(RetryableError, match=r"given up after 0\.5 s \(LLMSPAN_WRITE_TIMEOUT\)"),
        ):
            backend.write(some())
        front.released.set()
        backend._client()._timeout = 20
        backend.shutdown()
        backend.write(some())
        assert stored(backend) == len(some())


def test_restart(front, backend):
    """While the server is away writes are to be tried again; when it is back, the same backend goes on."""
    records = some()
    backend.write(records[:10])
    front.stop()
    with pytest.raises(RetryableError, match=f"ClickHouse http://someone@127.0.0.1:{front.port}/"):
        backend.write(records[10:])
    front.start()
    backend.write(records[10:])
    assert ids(backend) == [trace.id for trace in records]


def test_server_down_at_open(front):
    """A server that is down when the backend is opened may be up later."""
    front.stop()
    with shutting_down(a_backend(front)) as backend:
        for use in (backend.open, backend.check, backend.migrate, lambda: backend.write(some()), backend.list):
            with pytest.raises(RetryableError, match="ClickHouse http://someone@"):
                use()
        front.start()
        backend.open()
        backend.write(some())
        assert len(ids(backend)) == 20


def test_poison_record(backend):
    """A record that can never be stored fails its batch by name before anything is sent, and no other batch."""
    good, bad = make_trace(), make_trace(id="bad-one", chunk_count=2**70)
    with pytest.raises(PermanentError, match="record bad-one: chunk_count"):
        backend.write([good, bad])
    assert stored(backend) == 0
    backend.write([good])
    assert ids(backend) == [good.id]


CODES: dict[int, type[Exception]] = {
    159: RetryableError, 202: ThrottledError, 209: RetryableError, 210: RetryableError, 241: RetryableError,
    242: RetryableError, 243: RetryableError, 252: ThrottledError, 285: RetryableError, 319: RetryableError,
    999: RetryableError, 16: SchemaError, 47: SchemaError, 192: RefusedError, 193: RefusedError, 516: RefusedError,
    164: RefusedError, 497: RefusedError, 27: PermanentError, 117: PermanentError, 49: PermanentError,
}  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_codes(front, backend, code):
    """The server's code, not its words, says whether to try again, to look at the settings, or to give up."""
    text = f"Code: {code}. DB::Exception: secret is not a word. (A_NAME) (version 26.9.2.1 (official build))"
    with front.failing(clickhouse_http.status(500, code, text)), pytest.raises(CODES[code]) as caught:
        backend.write(some())
    assert type(caught.value) is CODES[code]
    message = str(caught.value)
    assert message.count("\n") == 0
    assert "secret" not in message
    assert "version 26" not in message
    assert f"http://someone@127.0.0.1:{front.port}/" in message
    backend.write(some())
    assert len(ids(backend)) == 20


# -- tables, users, databases


def test_missing_table_is_made_again(backend):
    """A table that somebody dropped is made again by the next write, if tables may be made."""
    backend._client().command(f"DROP TABLE {backend._table('provider_traces')} SYNC")
    backend.write(some())
    assert len(ids(backend)) == 20
    backend._client().command(f"DROP TABLE {backend._table('provider_traces')} SYNC")
    assert ids(backend) == []


def test_missing_database_is_made_again(backend):
    """So is the database."""
    backend._client().command(f"DROP DATABASE {backend._client().dsn.database} SYNC")
    backend.write(some())
    assert len(ids(backend)) == 20


def test_nothing_is_made_unasked(front):
    """Where tables may not be made, each use says in a sentence what is missing and who makes it."""
    with shutting_down(a_backend(front, auto_migrate=False)) as backend:
        for use in (backend.open, backend.check, lambda: backend.write(some()), backend.list):
            with pytest.raises(SchemaError, match=r"; make it with `llmspan migrate --backend clickhouse`$"):
                use()
        assert not backend._client().rows(
            "SELECT 1 FROM system.databases WHERE name = {d:String}", {"d": backend._client().dsn.database}
        )
        assert backend.migrate() == [
            f"database {backend._client().dsn.database}",
            "provider_traces",
            "llmspan_annotations",
        ]
        backend.open()
        backend.write(some())
        assert len(ids(backend)) == 20


def test_wrong_password(front):
    """A wrong password is one clear sentence without the password."""
    front.password = "the right one"
    with shutting_down(a_backend(front)) as backend:
        with pytest.raises(SettingsError, match="user someone cannot log in; check user and password") as caught:
            backend.open()
        assert str(caught.value).startswith(f"LLMSPAN_CLICKHOUSE_DSN=http://someone@127.0.0.1:{front.port}/")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (164, "Code: 164. DB::Exception: someone: Cannot execute query in readonly mode. (READONLY)"),
        (497, "Code: 497. DB::Exception: someone: Not enough privileges. (ACCESS_DENIED)"),
    ],
)
@pytest.mark.parametrize("statement", ["CREATE", "INSERT"])
def test_read_only_user(front, code, text, statement):
    """A user who may not make tables, or may not write, is told so in a sentence with the server's reason."""
    with shutting_down(a_backend(front)) as backend:
        if statement == "INSERT":
            backend.open()
        with (
            front.failing(clickhouse_http.status(500, code, text), where=statement),
            pytest.raises(
                SettingsError, match=r"user someone may not \(.*\); grant it, or name another user"
            ) as caught,
        ):
            backend.write(some())
        assert "LLMSPAN_CLICKHOUSE_DSN=" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "not ClickHouse"), (401, "cannot log in"), (302, "not ClickHouse")]
)
def test_something_else_answers(front, status, words):
    """What answers but is not ClickHouse, or a proxy that lets nobody in, is a matter of the settings."""
    with (
        shutting_down(a_backend(front)) as backend,
        front.failing(clickhouse_http.status(status, text="<html>"), where="", times=99),
        pytest.raises(SettingsError, match=words),
    ):
        backend.open()


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", "none"])
def test_compression(front, compress):
    """Each compression of the wire carries the records."""
    dsn = f"{front.dsn(clickhouse.new_database())}?compress={compress}"
    with shutting_down(ClickHouseBackend.from_settings(clickhouse.settings(dsn))) as backend:
        backend.open()
        backend.write(some())
        assert [trace.request_json for trace in map(backend.get, ids(backend)) if trace] == ['{"model":"gpt-5"}'] * 20


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", "none"])
def test_large_batches_arrive_whole(compress: str) -> None:
    """A batch that the driver sends in several blocks is stored whole, however it is compressed."""
    dsn = f"{clickhouse.server_dsn()}?compress={compress}"
    backend = ClickHouseBackend.from_settings(clickhouse.settings(dsn))
    with shutting_down(backend):
        backend.open()
        records = [make_trace(request_json=f'"{at}{"x" * 2_000_000}"') for at in range(5)]
        backend.write(records)
        backend.write(records)
        assert [backend.get(trace.id) for trace in records] == records
        assert backend.stats([])[0].calls == 5
