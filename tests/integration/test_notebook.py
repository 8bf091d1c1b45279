"""The notebook in examples/ runs from the first cell to the last on calls to the demo provider, and draws its plot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from integration.programs import ROOT, environment, run
from llmspan.demo.server import DemoServer

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("genai_prices")

NOTEBOOK = ROOT / "examples" / "calls_as_data_frame.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_notebook_runs_and_has_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of HTML and a picture come out; the file in the tree has no outputs."""
    database = tmp_path / "traces.db"
    with DemoServer() as server:
        env = environment(server, database)
        for name in ("openai_stream", "anthropic_stream"):
            assert (
                run(sys.executable, "-m", "llmspan", "run", str(ROOT / "examples" / f"{name}.py"), env=env).returncode
                == 0
            )
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    monkeypatch.setenv("LLMSPAN_SQLITE_PATH", str(database))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    html = "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert "anthropic" in html
    assert "openai" in html
