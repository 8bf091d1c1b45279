"""Every span, metric and event of all interactions, surfaces and outcomes is one that the GenAI conventions know."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider

import conventions
import surfaces
from conventions import event_faults, metric_faults, span_faults
from interaction import Interaction, parameters
from llmspan.content import ContentPolicy
from llmspan.demo.calls import CALLS
from llmspan.demo.server import DemoServer
from llmspan.instrumentation.content_capture import ContentCapture
from llmspan.metrics import CallMetrics
from outcomes import cells, perform
from replay import client_for, replay_sync
from signals import RESOURCE, Logs, Meters
from streams import ALL
from surface_calls import call, server
from watching import Watch, watching

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDKs' own


class Signals:
    """Both SDKs watched with everything on: content on spans and in events, metrics, times of chunks."""

    def __init__(self) -> None:
        self.meters, self.logs = Meters(), Logs()
        self.options: dict[str, Any] = {
            "metrics": CallMetrics(self.meters.provider),
            "logger": self.logs.logger,
            "capture": ContentCapture.from_mode("SPAN_AND_EVENT", ContentPolicy()),
            "times_all_chunks": True,
        }

    def check(self, watch: Watch) -> None:
        """No fault anywhere, and something to look at."""
        records = {record.id: record for record in watch.records}
        assert watch.spans
        faults: list[str] = []
        for span in watch.spans:
            if span.name == "caller":
                continue
            record = records.get(str((span.attributes or {}).get("llmspan.record.id")))
            sent = json.loads(record.request_json) if record is not None and record.request_json else None
            faults += [f"span {span.name!r}: {fault}" for fault in span_faults(span, sent)]
        faults += [f"metric {fault}" for metric in self.meters.metrics().values() for fault in metric_faults(metric)]
        for event in self.logs.events:
            faults += [f"event: {fault}" for fault in event_faults(event)]
        self.meters.provider.shutdown()
        self.logs.provider.shutdown()
        assert faults == [], "\n".join(["against the conventions " + conventions.VERSION, *sorted(set(faults))])


@pytest.mark.parametrize("name", parameters())
def test_interactions(name: str) -> None:
    """What an interaction makes is in the conventions' table, with the types and at the places it names."""
    signals = Signals()
    with watching(**signals.options) as watch:
        with contextlib.suppress(Exception):  # the other contract tests say which
            replay_sync(Interaction.load(name))
        signals.check(watch)


@pytest.mark.parametrize("surface", surfaces.ALL, ids=lambda surface: f"{surface.provider}-{surface.name}")
def test_surfaces(surface: surfaces.Surface) -> None:
    """The same of every surface of both SDKs."""
    signals = Signals()
    with watching(**signals.options) as watch:
        seen: list[httpx2.Request] = []
        with client_for(surface.provider, server(surface, seen)) as client:
            call(surface, surfaces.ways(surface)[0], client)
        signals.check(watch)


@pytest.mark.parametrize(
    ("outcome", "api", "colour"),
    [cell for cell in cells(ALL) if cell[2] == "async"],
    ids=lambda value: getattr(value, "name", value),
)
def test_outcomes(outcome: Any, api: Any, colour: Any) -> None:
    """The same of every way in which a call can end."""
    signals = Signals()
    with watching(**signals.options) as watch:
        perform(outcome, api, colour, TracerProvider(resource=RESOURCE, shutdown_on_exit=False))
        signals.check(watch)


def test_demo() -> None:
    """The same of the calls of ``llmspan demo``."""
    signals = Signals()
    with DemoServer() as demo, watching(**signals.options) as watch:
        for sdk in (openai, anthropic):
            for make in CALLS[sdk.__name__].values():
                make(sdk, demo.anthropic_base_url)
        signals.check(watch)
