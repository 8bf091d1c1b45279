"""The matrix of peers: its verdicts on cells, the list of cells that are known to be wrong, and its kept outcome."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span

HERE = Path(__file__).parents[1] / "peers"
USAGE = {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 2}


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The program that runs the matrix; it is a script, beside its other parts."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location("peers_run", HERE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    for name in set(sys.modules) - before:
        if str(HERE) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


class Scene:
    """Spans of a program, a record and a call, and the verdict on them."""

    def __init__(self, judge: Any) -> None:
        self.judge = judge
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.records: list[Any] = []
        self.calls: list[Any] = []

    def span(self, name: str, scope: str = "llmspan", **attributes: Any) -> Any:
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        return self.provider.get_tracer(scope).start_as_current_span(name, attributes=named)

    def call(self, span: Span | None, **changes: Any) -> None:
        """A call that the provider has answered, and its record, which names ``span``."""
        self.calls.append(self.judge.Answered("/v1/chat/completions", "id", 5, 2))
        if span is not None:
            parent = getattr(span, "parent", None)
            facts = {
                "operation": "chat", "status": "ok", "response_id": "id",
                "usage": SimpleNamespace(input_tokens=5, output_tokens=2),
                "span_id": f"{span.get_span_context().span_id:016x}",
                "trace_id": f"{span.get_span_context().trace_id:032x}",
                "parent_span_id": f"{parent.span_id:016x}" if parent else None,
            }  # fmt: skip
            self.records.append(SimpleNamespace(**{**facts, **changes}))

    def verdict(self, root: Span) -> Any:
        return self.judge.judge(root.get_span_context(), self.exporter.get_finished_spans(), self.records, self.calls)


@pytest.fixture
def scene(runner: Any) -> Scene:
    return Scene(sys.modules["judge"])


def test_one_span_and_one_record_are_right(scene: Scene) -> None:
    """One span with usage, below the program's, and one record that names it."""
    with scene.span("program") as root, scene.span("chat", **USAGE) as span:
        scene.call(span)
    cell = scene.verdict(root)
    assert (cell.calls, cell.records, cell.spans, cell.scopes, cell.faults) == (1, 1, 1, ["llmspan"], [])


@pytest.mark.parametrize(
    "usage",
    [
        {"llm.token_count.prompt": 5, "llm.token_count.completion": 2},
        {"gen_ai.usage.prompt_tokens": 5},
        {"langfuse.observation.usage_details": json.dumps({"input_tokens": 5, "output_tokens": 2})},
    ],
)
def test_usage_in_any_dialect_counts(scene: Scene, usage: dict[str, Any]) -> None:
    """A second span with usage is one too many, whatever its attributes are called."""
    with scene.span("program") as root, scene.span("theirs", "peer", **usage), scene.span("chat", **USAGE) as span:
        scene.call(span)
    assert scene.verdict(root).faults == [
        "2 spans with usage for 1 calls: chat (llmspan), theirs (peer)",
        "chat is below another span with usage",
    ]


@pytest.mark.parametrize(
    "around",
    [{"gen_ai.operation.name": "invoke_agent"}, {"openinference.span.kind": "CHAIN"}],
)
def test_an_agents_sum_is_no_call(scene: Scene, around: dict[str, Any]) -> None:
    """The usage of an agent or a chain is that of its calls, and is not counted as one."""
    with (
        scene.span("program") as root,
        scene.span("agent", "peer", **around, **USAGE),
        scene.span("chat", **USAGE) as s,
    ):
        scene.call(s)
    assert scene.verdict(root).faults == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"span_id": "00000000000000aa"}, "a record names span 00000000000000aa, which carries no usage"),
        ({"trace_id": "aa"}, "a record names trace aa, which is not its span's"),
        ({"parent_span_id": None}, "the record of chat names another parent than its span"),
        ({"status": "incomplete"}, "a record is incomplete"),
        ({"response_id": "other"}, "records [('other', '5', '2')] for calls [('id', '5', '2')]"),
    ],
)
def test_what_is_wrong_with_a_record(scene: Scene, changes: dict[str, Any], fault: str) -> None:
    """A record is compared with its span and with what the provider has sent."""
    with scene.span("program") as root, scene.span("chat", **USAGE) as span:
        scene.call(span, **changes)
    assert scene.verdict(root).faults == [fault]


def test_a_call_without_a_record(scene: Scene) -> None:
    """A call that was not recorded is a fault, even if a span has its usage."""
    with scene.span("program") as root, scene.span("chat", "peer", **USAGE):
        scene.call(None)
    assert scene.verdict(root).faults == ["0 records for 1 calls"]


def test_a_span_out_of_its_place(scene: Scene) -> None:
    """A span in a trace of its own is a fault, and so is one beside the agent that made the call."""
    with scene.span("chat", **USAGE) as span:
        scene.call(span)
    with scene.span("program") as root, scene.span("agent", "peer", gen_ai__operation__name="invoke_agent"):
        pass
    assert scene.verdict(root).faults == [
        "chat is not below the span of the program",
        "chat is not below the agent's span",
    ]


def test_a_peers_own_numbers_are_remarked(scene: Scene) -> None:
    """What a peer has written about usage stays as it is; that it differs from the provider's is no fault."""
    with scene.span("program") as root, scene.span("chat", "peer", **{**USAGE, "gen_ai.usage.input_tokens": 4}) as span:
        scene.call(span)
    cell = scene.verdict(root)
    assert (cell.faults, cell.remarks) == ([], ["peer says (4, 2), the provider (5, 2)"])


def test_nothing_called_is_wrong(scene: Scene) -> None:
    """A cell whose call never reached the provider proves nothing."""
    with scene.span("program") as root:
        pass
    assert scene.verdict(root).faults == ["no call reached the provider"]


# -- the list of cells that are known to be wrong --------------------------------------------------------------------


def test_the_list_only_shrinks(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong cell that is not on the list fails the run; so does a cell on the list that has turned right."""
    cell = {"calls": 1, "records": 1, "spans": 1, "scopes": [], "remarks": []}
    matrix = {"Peer": {"order": {"chat": {**cell, "faults": ["why"]}, "messages": {**cell, "faults": []}}}}
    monkeypatch.setattr(runner, "KNOWN_WRONG", {})
    assert list(runner.compare(matrix)) == ["WRONG Peer, order, chat: why"]
    monkeypatch.setattr(runner, "KNOWN_WRONG", {("Peer", "order", "chat"): "", ("Peer", "order", "messages"): ""})
    assert list(runner.compare(matrix)) == ["RIGHT Peer, order, messages: take it out of known_wrong.py"]


def test_versions_are_pinned(runner: Any) -> None:
    """Every package under test has one version; what a run says is said of that one."""
    requirements = sys.modules["environments"].REQUIREMENTS
    assert [need for needs in requirements.values() for need in needs if "==" not in need] == []
    assert {peer.environment for peer in runner.PEERS.values()} == set(requirements)


def test_the_kept_outcome_is_that_of_these_peers(runner: Any) -> None:
    """results.json has each cell, of the versions that are pinned; what is wrong in it is on the list."""
    kept = runner.read_results()
    assert kept["requirements"] == {name: list(n) for name, n in sys.modules["environments"].REQUIREMENTS.items()}
    cells = {
        (name, order, surface): cell["right"]
        for name, orders in kept["cells"].items()
        for order, row in orders.items()
        for surface, cell in row.items()
    }
    peers = runner.PEERS.values()
    assert set(cells) == {(peer.name, order, call) for peer in peers for order in peer.orders for call in peer.calls}
    assert {cell for cell, is_right in cells.items() if not is_right} == set(runner.KNOWN_WRONG)


def test_a_part_of_a_run_changes_its_part(runner: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``--update`` with some peers keeps the outcome of the others."""
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results.json")
    cell = {"calls": 1, "records": 1, "spans": 1, "scopes": ["llmspan"], "faults": [], "remarks": []}
    runner.update({"smolagents": {"order": {"chat": cell}}})
    runner.update({"agno": {"order": {"chat": {**cell, "faults": ["why"]}}}})
    kept = {name: orders["order"]["chat"]["right"] for name, orders in runner.read_results()["cells"].items()}
    assert kept == {"smolagents": True, "agno": False}


def test_the_page_has_the_kept_outcome() -> None:
    """The table in docs/one-span.md is made from results.json."""
    done = subprocess.run(
        [sys.executable, "docs/one_span.py", "--check"],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("logs_usage", [True, False])
def test_usage_on_a_log_beside_the_span(scene: Scene, logs_usage: bool) -> None:
    """A record may name a span whose usage its owner logs beside it, if that is how the peer reports streams."""
    with scene.span("program") as root:
        with scene.span("stream", "peer") as span:
            scene.call(span)
        with scene.span("took 1 s", "peer", **USAGE):
            pass
    spans = scene.exporter.get_finished_spans()
    cell = scene.judge.judge(root.get_span_context(), spans, scene.records, scene.calls, logs_usage=logs_usage)
    id_ = f"{span.get_span_context().span_id:016x}"
    assert cell.faults == ([] if logs_usage else [f"a record names span {id_}, which carries no usage"])
