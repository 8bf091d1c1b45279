"""What a page exports is what its filter means, in each format, and the program beside it loads the same calls."""

from __future__ import annotations

import contextlib
import csv
import html
import http.client
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pyarrow import parquet

from llmspan.backends.base import Filters
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.reader import Reader
from llmspan.ui.pages import export
from records import make_trace
from viewer import TOKEN, Viewer, running

QUERY = "status:error tokens>10"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "traces.db"
    backend = SQLiteBackend(path)
    backend.write(
        [
            make_trace(
                id=f"call-{index:04}", status="error" if index % 2 else "ok", run_id=f"run-{index % 3}",
                response_model=f"model-{index % 5}", content="full", request_json='{"input": "ü\\n"}' + " " * 1000,
            )
            for index in range(3000)
        ]
    )  # fmt: skip
    backend.shutdown()
    return path


@pytest.fixture(scope="module")
def viewer(path: Path) -> Iterator[Viewer]:
    with running(lambda: Reader(SQLiteBackend(path)), location=f"sqlite {path}") as viewer:
        yield viewer


def download(viewer: Viewer, address: str) -> tuple[Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", address, None, {"Cookie": f"llmspan_ui_{viewer.port}={TOKEN}"})
        response = connection.getresponse()
        assert response.status == 200
        return response.headers, response.read()


def test_round_trip(viewer: Viewer, path: Path) -> None:
    """JSON Lines are the records, and tables have their ids; more than one piece of each."""
    with Reader(SQLiteBackend(path)) as reader:
        expected = list(reader.iterate_json(Filters.parse(QUERY)))
    assert len(expected) == 1500
    ids = [re.search('"id": ?"([^"]+)"', line)[1] for line in expected]  # type: ignore[index]
    address = f"?q={quote(QUERY)}"
    headers, data = download(viewer, f"/export/jsonl{address}")
    assert re.fullmatch(r'attachment; filename="llmspan-\d{8}-\d{6}\.jsonl"', headers["Content-Disposition"])
    assert data.decode().splitlines() == expected
    _, data = download(viewer, f"/export/csv{address}")
    assert [row["id"] for row in csv.DictReader(io.StringIO(data.decode()))] == ids
    _, data = download(viewer, f"/export/parquet{address}")
    assert parquet.read_table(io.BytesIO(data)).column("id").to_pylist() == ids


@pytest.mark.parametrize("page", ["/?q=status:error", "/?q=model:model-1,model-2&group=model:model-1", "/run/run-1",
                                  "/call/call-0007", "/usage?q=run:run-2"])  # fmt: skip
def test_the_program_loads_what_is_exported(viewer: Viewer, page: str) -> None:
    """On each page: the program that it shows, run, has the calls of the file that it offers."""
    text = viewer.ask(page).text
    program = html.unescape(text.split('<pre id="loading-text">')[1].split("</pre>")[0])
    names: dict[str, Any] = {}
    exec(program.replace("print(calls)", ""), names)
    link = html.unescape(re.search(r'href="(/export/csv[^"]*)"', text)[1])  # type: ignore[index]
    _, data = download(viewer, link)
    ids = [row["id"] for row in csv.DictReader(io.StringIO(data.decode()))]
    assert ids
    assert list(names["calls"]["id"]) == ids


def test_what_is_not_exported(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another format is no page, a wrong filter says so, and too many calls name the command."""
    assert viewer.ask("/export/xlsx").status == 404
    assert viewer.ask("/export/csv?q=statsu:ok").status == 400
    monkeypatch.setattr(export, "MOST_CALLS", 100)
    answer = viewer.ask("/export/csv")
    assert (answer.status, "llmspan export --format csv" in answer.text) == (400, True)
    assert viewer.ask("/export/csv?q=id:call-0001").status == 200


def test_a_download_that_is_broken_off(viewer: Viewer) -> None:
    """Its reader ends: as many more as may run can follow."""
    for _ in range(4):
        connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=60)
        connection.request("GET", "/export/jsonl", None, {"Cookie": f"llmspan_ui_{viewer.port}={TOKEN}"})
        with contextlib.closing(connection), connection.getresponse() as response:
            assert response.read(100)
    answers = (viewer.ask("/export/csv?q=id:call-0001").status for _ in range(200))
    assert next(status for status in answers if status == 200)
