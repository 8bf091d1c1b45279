"""What a backend takes in, each beside its physical limit in the same run.

    uv run python bench/backends.py                   # all parts, as a table
    uv run python bench/backends.py --only postgres   # some of them
    uv run python bench/backends.py --json            # the same as JSON

A part is a module ``backends_NAME.py`` with a ``measure(rounds)``. Records go through ``backend.write`` in
batches, as a delivery would send them, and the same bytes go the shortest way that the store knows. The two alternate,
and the best round of each counts: a busy machine only ever makes things slower. "CPU" is that of the client process.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import report
from llmspan.trace import ProviderTrace, new_id
from llmspan.usage import Usage
from records import make_trace

#: bytes of request and response together, and how many such records are a batch and a round
SIZES = {"4 KB": (4096, 500, 10_000), "64 KB": (65536, 100, 1_000)}
PARTS = ("postgres", "clickhouse")


@dataclass
class Figure:
    """One line of the table."""

    store: str
    payload: str
    #: what the limit is
    limit: str
    rows_per_s: float
    limit_rows_per_s: float
    cpu_us_per_row: float
    limit_cpu_us_per_row: float

    @property
    def share(self) -> float:
        """How much of the limit is reached."""
        return self.rows_per_s / self.limit_rows_per_s


@dataclass
class Round:
    """What one round took, in seconds."""

    wall: float
    cpu: float


def figure(store: str, payload: str, limit: str, rows: int, ours: Sequence[Round], bound: Sequence[Round]) -> Figure:
    """The best round of each side."""
    return Figure(
        store=store,
        payload=payload,
        limit=limit,
        rows_per_s=rows / min(one.wall for one in ours),
        limit_rows_per_s=rows / min(one.wall for one in bound),
        cpu_us_per_row=min(one.cpu for one in ours) / rows * 1e6,
        limit_cpu_us_per_row=min(one.cpu for one in bound) / rows * 1e6,
    )


def records(count: int, payload_bytes: int, started_at: int) -> list[ProviderTrace]:
    """Records whose payloads compress about as well as real ones, to a third."""
    chance = random.Random(7)
    words = ["".join(chance.choices("etaoinshrdlucm", k=chance.randint(2, 11))) for _ in range(1500)]

    def payload(size: int) -> str:
        text = json.dumps({"model": "claude-opus-5", "messages": [{"role": "user", "content": ""}]})
        return text.replace('""', f'"{" ".join(chance.choices(words, k=size // 6))[: size - len(text)]}"')

    usage = Usage(
        input_tokens=12_034, output_tokens=512, cache_read_tokens=11_264, cache_write_tokens=0, reasoning_tokens=128,
        details={"cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0}, source="provider",
        raw={"input_tokens": 770, "cache_read_input_tokens": 11_264, "output_tokens": 512},
    )  # fmt: skip
    return [
        make_trace(
            id=new_id(),
            trace_id=f"{chance.getrandbits(128):032x}",
            span_id=f"{chance.getrandbits(64):016x}",
            parent_span_id=f"{chance.getrandbits(64):016x}",
            step_id=f"step-{new_id()}",
            run_id=f"run-{at // 20}",
            agent_id=f"agent-{at % 50}",
            source="assistant",
            attributes={"tenant": f"t{at % 7}"},
            api="messages",
            response_model="claude-opus-5",
            response_id=f"msg_{chance.getrandbits(96):024x}",
            request_id=f"req_{chance.getrandbits(96):024x}",
            stream=True,
            service_tier="standard",
            server_address="api.anthropic.com",
            server_port=443,
            sdk="anthropic/2.12.0",
            finish_reasons=("end_turn",),
            http_status=200,
            attempts=1,
            started_at=started_at + at * 1_000_000,
            time_to_first_chunk_ns=412_345_678,
            chunk_count=187,
            usage=usage,
            request_json=payload(payload_bytes * 3 // 4),
            response_json=payload(payload_bytes // 4),
            request_bytes=payload_bytes * 3 // 4,
            response_bytes=payload_bytes // 4,
        )
        for at in range(count)
    ]


def batches(found: Sequence[ProviderTrace], size: int) -> list[Sequence[ProviderTrace]]:
    """``found`` in pieces."""
    return [found[at : at + size] for at in range(0, len(found), size)]


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| store | payload | rows/s | limit, rows/s | of the limit | CPU, µs/row | limit's CPU | limit |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---|")
    lines += [
        f"| {one.store} | {one.payload} | {one.rows_per_s:,.0f} | {one.limit_rows_per_s:,.0f} | {one.share:.0%}"
        f" | {one.cpu_us_per_row:,.0f} | {one.limit_cpu_us_per_row:,.0f} | {one.limit} |"
        for one in figures
    ]
    return "\n".join(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if given.quick:
        given.rounds = 1
        SIZES.update({payload: (size, 20, 100) for payload, (size, *_) in SIZES.items()})
    figures: list[Figure] = []
    for name in given.only or PARTS:
        figures += importlib.import_module(f"backends_{name}").measure(given.rounds)
    report.give(given, [asdict(one) for one in figures], table(figures))


if __name__ == "__main__":
    # the parts import this module by its name; they shall not get a second one
    sys.modules["backends"] = sys.modules["__main__"]
    main()
