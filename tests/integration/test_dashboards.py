"""Every query of every dashboard, on the real engines, against what plain Python computes from the same records."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from integration.dashboard_rows import ASKED, ASKED_CALLS, END, EXPECTED, RECORDS, START, Asked, Rows, model_of

GRAFANA = Path(__file__).parents[2] / "collector-config" / "grafana"

# -- Grafana's part: macros and variables


def expanded(sql: str, ask: Asked) -> str:
    """A query as Grafana sends it: conditional filters, variables, then the data source's macros."""
    sql = _conditionals(sql, ask)
    values = ask.values()
    sql = re.sub(r"\$\{(\w+):(\w+)\}", lambda found: _text(values[found[1]]), sql)
    since, until = (dt.datetime.fromtimestamp(ns / 1e9, dt.UTC) for ns in (START, END))
    sql = re.sub(
        r"\$__timeFilter\((\w+)\)",
        lambda f: (
            f"{f[1]} >= toDateTime({START // 10**9}) AND {f[1]} <= toDateTime({END // 10**9})"
            if f[1] == "timestamp"
            else f"{f[1]} BETWEEN '{since:%Y-%m-%dT%H:%M:%SZ}' AND '{until:%Y-%m-%dT%H:%M:%SZ}'"
        ),
        sql,
    )
    sql = sql.replace("$__interval_s", "3600")
    sql = re.sub(
        r"\$__timeGroupAlias\((\w+), ?\$__interval\)", r'floor(extract(epoch from \1)/3600)*3600 AS "time"', sql
    )
    assert "$" not in sql, sql
    return sql


def _conditionals(sql: str, ask: Asked) -> str:
    macro = "$__conditionalAll("
    while (begin := sql.find(macro)) >= 0:
        depth, commas, place = 1, [], begin + len(macro)
        while depth:
            depth += {"(": 1, ")": -1}.get(sql[place], 0)
            if sql[place] == "," and depth == 1:
                commas.append(place)
            place += 1
        (comma,) = commas
        condition, variable = sql[begin + len(macro) : comma], sql[comma + 1 : place - 1].strip()
        chosen = {"$provider": ask.providers, "$model": ask.models}[variable]
        sql = sql[:begin] + (condition if chosen else "1=1") + sql[place:]
    return sql


def _text(value: tuple[str, ...] | str) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return ",".join("'" + one.replace("'", "''") + "'" for one in values)


# -- the engines


@pytest.fixture(scope="module")
def postgres() -> Callable[[str], Rows]:
    import psycopg

    from llmspan.backends.postgres import PostgresBackend
    from stores.postgres import new_schema

    dsn = new_schema()
    backend = PostgresBackend(dsn)
    backend.open()
    backend.write(RECORDS)
    backend.shutdown()

    def query(sql: str) -> Rows:
        with psycopg.connect(dsn) as connection:
            return connection.execute(sql).fetchall()  # pyright: ignore[reportCallIssue, reportArgumentType]

    return query


@pytest.fixture(scope="module")
def clickhouse() -> Iterator[Callable[[str], Rows]]:
    import clickhouse_connect

    from llmspan.backends.clickhouse import ClickHouseBackend
    from stores import clickhouse as store

    database = store.new_database()
    backend = ClickHouseBackend.from_settings(store.settings(store.embedded_dsn(database)))
    backend.open()
    backend.write(RECORDS)
    backend.shutdown()
    client = clickhouse_connect.get_client(interface="chdb", path=store.directory(), database=database)
    yield lambda sql: [tuple(row) for row in client.query(sql).result_rows]
    client.close()


def plain(value: Any) -> Any:
    """Numbers, texts and times as both engines' drivers may give them."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).timestamp()
    if isinstance(value, str) and value[:1] in ("{", "["):
        return json.loads(value)
    return value


def panels(source: str) -> list[tuple[str, dict[str, Any]]]:
    files = sorted((GRAFANA / "dashboards" / source).glob("*.json"))
    return [(file.stem, panel) for file in files for panel in json.loads(file.read_text())["panels"]]


CASES = [
    pytest.param(source, board, target["rawSql"], panel["title"], id=f"{source}-{board}-{panel['title']}")
    for source in ("clickhouse", "postgres")
    for board, panel in panels(source)
    for target in panel["targets"]
]


@pytest.mark.parametrize(("source", "board", "sql", "title"), CASES)
def test_a_panel_shows_what_python_computes(
    source: str, board: str, sql: str, title: str, request: pytest.FixtureRequest
) -> None:
    """Each panel, for all calls and for a choice of them, gives the rows that plain Python gives."""
    query = request.getfixturevalue(source)
    for ask in ASKED_CALLS if board == "call" else ASKED:
        expected = EXPECTED[board, title](ask if board == "call" else ask.records())
        found = [tuple(map(plain, row)) for row in query(expanded(sql, ask))]
        assert len(found) == len(expected) > 0
        for row, wanted in zip(found, expected, strict=True):
            assert row == tuple(map(nearly, wanted))


def nearly(value: Any) -> Any:
    """A value to compare with: floats but for the last digits, in which engines differ."""
    return pytest.approx(value, rel=1e-9) if isinstance(value, float) else value


@pytest.mark.parametrize("source", ["clickhouse", "postgres"])
def test_the_variables_offer_what_is_there(source: str, request: pytest.FixtureRequest) -> None:
    """The lists of providers and models are those of the records in the time range."""
    query = request.getfixturevalue(source)
    here = Asked().records()
    wanted = {"provider": sorted({t.provider for t in here}), "model": sorted({model_of(t) for t in here})}
    board = json.loads((GRAFANA / "dashboards" / source / "usage.json").read_text())
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert [row[0] for row in query(expanded(variable["query"], Asked()))] == wanted[variable["name"]]


def test_nothing_is_left_out() -> None:
    """Both data sources have the same five dashboards and panels, and each panel is computed in Python too."""
    for source in ("clickhouse", "postgres"):
        assert {(board, panel["title"]) for board, panel in panels(source)} == EXPECTED.keys()
        assert len({board for board, _ in panels(source)}) == 5


def test_conventions() -> None:
    """Fixed uids, no ids, a data source variable that everything uses, and files that are what build.py writes."""
    subprocess.run([sys.executable, GRAFANA / "build.py", "--check"], check=True)
    kinds = {"clickhouse": "grafana-clickhouse-datasource", "postgres": "grafana-postgresql-datasource"}
    for source, kind in kinds.items():
        for file in (GRAFANA / "dashboards" / source).glob("*.json"):
            board = json.loads(file.read_text())
            assert (board["uid"], board["id"]) == (f"llmspan-{source}-{file.stem}", None)
            assert board["schemaVersion"] == 39
            assert {"genai", "otel"} <= set(board["tags"])
            used = {"type": kind, "uid": "${datasource}"}
            for panel in board["panels"]:
                assert panel["datasource"] == used
                assert all(target["datasource"] == used for target in panel["targets"])
