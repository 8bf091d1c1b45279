"""10 000 calls a second, simulated hop by hop with measured service times: what gives way first, and when.

    uv run python bench/scale.py                      # the default set-up at 10 000 calls/s
    uv run python bench/scale.py --calls 30000        # ... at another rate
    uv run python bench/scale.py --docs               # writes the tables into docs/scaling.md

A discrete-event simulation of batches. Every hop is a set of equal nodes, each a queue in front of a few cores; a batch
takes as many CPU seconds as it has calls times the measured time of the hop, give or take (exponential). Arrivals are
random, with a burst to twice the rate for ten seconds. A queue that is full keeps its sender waiting, which is how
these hops are configured: nothing is dropped, it backs up. Inputs are in bench/scale_inputs.json (scale_measure.py).
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
INPUTS = json.loads((HERE / "scale_inputs.json").read_text())
DOCS = HERE.parent / "docs" / "scaling.md"
SECONDS = 60.0
BURST = (25.0, 35.0)
#: tail-sampling.yaml's defaults; a trace of one call is the worst case
SAMPLER_TRACES = 50_000
SAMPLER_WAIT = 60.0
#: calls in a batch of the simulation; smaller ones change nothing but its own running time
BATCH = 50


@dataclass(frozen=True)
class Hop:
    """A tier: ``nodes`` machines, ``cores`` of each for this work, CPU microseconds a call."""

    name: str
    nodes: int
    cores: int
    us: float

    @property
    def capacity(self) -> float:
        """Calls a second that keep every core busy."""
        return self.nodes * self.cores / self.us * 1e6


@dataclass
class Node:
    """One machine: when each of its cores is free, and what waits."""

    free: list[float]
    busy: float = 0.0
    waits: list[float] = field(default_factory=list)


def topology() -> list[Hop]:
    """50 hosts of 8 processes, an agent on each, gateways, ClickHouse: what docs/scaling.md sizes."""
    return [
        Hop("program: exporter thread", nodes=400, cores=1, us=INPUTS["exporter_us"]),
        Hop("agent Collector, a host", nodes=50, cores=1, us=INPUTS["agent_us"]),
        Hop("gateway Collector", nodes=3, cores=2, us=INPUTS["gateway_us"]),
        Hop("ClickHouse: spans and view", nodes=2, cores=2, us=INPUTS["clickhouse_span_us"]),
    ]


def direct() -> list[Hop]:
    """Records with payloads, from the programs' own backend thread straight to ClickHouse."""
    return [Hop("ClickHouse: records with payload", nodes=2, cores=2, us=INPUTS["clickhouse_record_us"])]


def arrivals(calls: float, dice: random.Random) -> list[float]:
    """When batches come: at random, twice as often during the burst."""
    times: list[float] = []
    now = 0.0
    while now < SECONDS:
        rate = calls / BATCH * (2 if BURST[0] <= now < BURST[1] else 1)
        now += dice.expovariate(rate)
        times.append(now)
    return times


def simulate(hops: list[Hop], calls: float, seed: int = 1) -> list[dict[str, float | str]]:
    """What each hop went through: use of its cores, waiting time, longest backlog in calls."""
    dice = random.Random(seed)
    events = [(time, number, 0) for number, time in enumerate(arrivals(calls, dice))]
    heapq.heapify(events)
    nodes = [[Node([0.0] * hop.cores) for _ in range(hop.nodes)] for hop in hops]
    waits: list[list[float]] = [[] for _ in hops]
    under_way: list[list[tuple[float, int]]] = [[] for _ in hops]
    end = 0.0
    while events:
        now, batch, place = heapq.heappop(events)
        hop = hops[place]
        node = nodes[place][hash((batch, place)) % hop.nodes]
        begins = max(now, heapq.heappop(node.free))
        takes = dice.expovariate(1.0) * BATCH * hop.us / 1e6
        heapq.heappush(node.free, begins + takes)
        node.busy += takes
        waits[place].append(begins - now)
        under_way[place] += [(now, 1), (begins, -1)]
        end = max(end, begins + takes)
        if place + 1 < len(hops):
            heapq.heappush(events, (begins + takes, batch, place + 1))
    return [
        {
            "hop": hop.name,
            "nodes": hop.nodes,
            "cores": hop.cores,
            "us": hop.us,
            "capacity": hop.capacity,
            "use": calls / hop.capacity,
            "p99_wait": sorted(waits[place])[int(0.99 * len(waits[place]))],
            "backlog": _peak(under_way[place]) * BATCH,
        }
        for place, hop in enumerate(hops)
    ]


def _peak(changes: list[tuple[float, int]]) -> int:
    """The most batches that waited at once."""
    level = peak = 0
    for _, change in sorted(changes):
        level += change
        peak = max(peak, level)
    return peak


def first_bottleneck(hops: list[Hop]) -> Hop:
    """The hop that runs out of cores at the lowest rate."""
    return min(hops, key=lambda hop: hop.capacity)


def table(calls: float) -> str:
    """The simulation's result in Markdown."""
    lines = [
        "| hop | nodes x cores | CPU a call, µs | calls/s at 100 % | use | wait p99 | longest backlog, calls |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for hops in (topology(), direct()):
        for row in simulate(hops, calls):
            wait = float(row["p99_wait"])
            shown = f"{wait * 1000:.0f} ms" if wait < 1 else f"{wait:.1f} s"
            lines.append(
                f"| {row['hop']} | {row['nodes']} x {row['cores']} | {row['us']:.0f} | {row['capacity']:,.0f} |"
                f" {row['use']:.0%} | {shown} | {row['backlog']:,.0f} |"
            )
    hop = first_bottleneck([*topology(), *direct()])
    gateways = next(hop.nodes for hop in topology() if hop.name == "gateway Collector")
    room = gateways * SAMPLER_TRACES / SAMPLER_WAIT
    needed = calls * SAMPLER_WAIT / gateways
    lines += ["", f"First to run out of cores: **{hop.name}**, at {hop.capacity:,.0f} calls/s."]
    lines += [f"Before that, the **room of the tail sampler**: {SAMPLER_TRACES:,} traces for {SAMPLER_WAIT:.0f} s are"]
    lines += [f"{room:,.0f} calls/s on {gateways} gateways; {calls:,.0f} need `OTELCOL_SAMPLE_TRACES={needed:.0f}`."]
    return "\n".join(lines)


def inputs() -> str:
    """The measured inputs in Markdown."""
    times = {
        "exporter_us": "`llmspan_otlp` in the program, a span",
        "agent_us": "agent: agent.yaml, queue on disk with fsync, a span",
        "gateway_us": "gateway: redaction, metrics, tail sampling, clickhouse, a span",
        "clickhouse_span_us": "ClickHouse, a span: otel_traces, its views, provider_traces",
        "clickhouse_record_us": "ClickHouse and our driver, a record with payload",
    }
    lines = ["| hop | CPU, µs | one core does, a second |", "| --- | ---: | ---: |"]
    lines += [f"| {what} | {INPUTS[name]:,.0f} | {1e6 / INPUTS[name]:,.0f} |" for name, what in times.items()]
    lines += ["", "| payload of a record | records | bytes | lz4 | zstd 1 | zstd 3 |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row['payload']} | {row['records']} | {row['bytes']:,} | {row['lz4']:,} | {row['zstd 1']:,} |"
        f" {row['zstd 3']:,} |"
        for row in INPUTS["records"]
    ]
    lines += ["", f"A span is {INPUTS['span_bytes']:,.0f} bytes in OTLP, {INPUTS['span_zstd_bytes']:,.0f} by zstd 1."]
    return "\n".join([*lines, "", f"{INPUTS['date']}, {INPUTS['collector']}, by `bench/scale_measure.py`."])


def write_docs(calls: float) -> None:
    """Put both tables between their markers."""
    text = DOCS.read_text()
    for name, content in (("inputs", inputs()), ("simulation", table(calls))):
        head, rest = text.split(f"<!-- {name}: begin -->\n")
        tail = rest.split(f"<!-- {name}: end -->")[1]
        text = f"{head}<!-- {name}: begin -->\n{content}\n<!-- {name}: end -->{tail}"
    DOCS.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="simulate calls through the hops of docs/scaling.md")
    parser.add_argument("--calls", type=float, default=10_000, help="calls per second, all hosts together")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/scaling.md")
    options = parser.parse_args()
    if options.docs:
        write_docs(options.calls)
    print(inputs(), table(options.calls), sep="\n\n")


if __name__ == "__main__":
    main()
