"""Records of calls, and what each panel of the dashboards should show of them, computed in plain Python."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llmspan.cost import cost_of
from llmspan.own_prices import OwnPrice, OwnPrices
from llmspan.trace import ProviderTrace, new_id
from llmspan.usage import Usage

HOUR = 3600 * 10**9
END = int(dt.datetime.now(dt.UTC).timestamp()) // 3600 * HOUR
START = END - 30 * HOUR
PRICES = {
    "model-a": {"input": 3.0, "cache_read": 0.3, "cache_write": 3.75, "cache_write_1h": 6.0, "output": 15.0},
    "model-b": {"input": 1.25, "output": 10.0},
}
#: the same prices, as `LLMSPAN_PRICES` would have them
OWN = OwnPrices(
    tuple(
        OwnPrice(provider="*", model=model, **{kind: Decimal(str(price)) for kind, price in prices.items()})
        for model, prices in PRICES.items()
    )
)
CALLED = [("openai", "model-b"), ("anthropic", "model-a"), ("anthropic", None), ("x_ai", "grok")]
Rows = list[tuple[Any, ...]]
Records = Sequence[ProviderTrace]


@dataclass(frozen=True)
class Asked:
    """What the user has chosen above a dashboard; no providers or models: all of them."""

    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    id: str = ""
    step_id: str = ""

    def records(self) -> list[ProviderTrace]:
        return [
            t
            for t in RECORDS
            if START <= t.started_at <= END
            and (not self.providers or t.provider in self.providers)
            and (not self.models or model_of(t) in self.models)
        ]

    def values(self) -> dict[str, tuple[str, ...] | str]:
        """By variable; "All" stands for every value there is, as Grafana writes it into queries."""
        return {
            "provider": self.providers or tuple(sorted({t.provider for t in RECORDS})),
            "model": self.models or tuple(sorted({model_of(t) for t in RECORDS})),
            "prices": json.dumps(PRICES),
            "id": self.id,
            "step_id": self.step_id,
        }


# -- the records


def some_records() -> list[ProviderTrace]:
    """Calls of all kinds within the time range, and some outside of it."""
    dice = random.Random(6)
    found: list[ProviderTrace] = []
    for n in range(400):
        provider, model = dice.choice(
            [("openai", "model-b"), ("anthropic", "model-a"), ("anthropic", None), ("x_ai", "grok")]
        )
        status = dice.choice(["ok"] * 6 + ["error", "incomplete", "cancelled", "closed_early"])
        reported = status != "error" and dice.random() < 0.9
        cached = reported and dice.random() < 0.8
        duration = dice.randrange(10**7, 60 * 10**9)
        entered = dice.randrange(100, 50_000)
        found.append(
            ProviderTrace(
                id=new_id()[:-12] + f"{n:012x}",
                trace_id=f"{n + 1:032x}",
                span_id=f"{n + 1:016x}",
                step_id=f"step-{n // 2}" if n % 5 else None,
                run_id=f"run-{n // 8}" if n % 7 else None,
                agent_id=dice.choice([None, "agent-1", "agent-2"]),
                user_id=dice.choice([None, "ann", "bob"]),
                org_id=dice.choice([None, "acme"]),
                provider=provider,
                operation="chat",
                api="messages",
                request_model=model,
                response_model=dice.choice([None, model]),
                service_tier=(None, "default", "standard", "batch")[n % 4],
                status=status,
                finish_reasons=("stop",) if status == "ok" else (),
                error_type=dice.choice(["overloaded_error", None]) if status == "error" else None,
                error_message="it's overloaded" if status == "error" else None,
                http_status=dice.choice([529, 500]) if status == "error" else 200,
                attempts=dice.choice([1, 1, 1, 2, 3, None]),
                started_at=dice.randrange(START, END) if n % 50 else START - 5 * HOUR + n,
                duration_ns=duration,
                time_to_first_chunk_ns=dice.choice([None, duration // 3, duration]) if status != "error" else None,
                usage=Usage(
                    input_tokens=entered if reported else None,
                    output_tokens=dice.randrange(0, 4000) if reported else None,
                    cache_read_tokens=dice.randrange(0, entered // 2) if cached else None,
                    cache_write_tokens=dice.randrange(20, entered // 4) if cached and n % 3 else None,
                    reasoning_tokens=dice.randrange(0, 100) if reported and n % 4 == 0 else None,
                    details={"cache_write_1h_tokens": 0 if n % 6 else 20} if cached and n % 3 else {},
                    source="provider" if reported else "none",
                ),
                request_json=json.dumps({"messages": [{"role": "user", "content": f"say '{n}'"}]}),
                response_json=json.dumps({"content": [{"text": str(n)}]}) if status == "ok" else None,
                content="full",
            )
        )
    return found


RECORDS = some_records()
STEP = next(t.step_id for t in RECORDS if t.step_id and t.run_id)
ONE = RECORDS[123]


# -- what a panel should show


def model_of(t: ProviderTrace) -> str:
    return t.response_model or t.request_model or "unknown"


def failed(t: ProviderTrace) -> bool:
    return t.status in ("error", "incomplete")


def total(values: Iterator[int | float | None] | Sequence[int | float | None]) -> int | float | None:
    """A sum as in SQL: over what is there, NULL if nothing is."""
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def cost(t: ProviderTrace) -> float | None:
    """What llmspan itself says that the call cost, at the prices of the dashboard."""
    amount = cost_of(t, OWN).amount
    return None if amount is None or model_of(t) not in PRICES else float(amount)


def quantile(share: float, values: Iterator[float | None]) -> float | None:
    there = sorted(value for value in values if value is not None)
    if not there:
        return None
    place = share * (len(there) - 1)
    low = int(place)
    high = min(low + 1, len(there) - 1)
    return there[low] + (there[high] - there[low]) * (place - low)


def seconds(t: ProviderTrace) -> float:
    return t.duration_ns / 1e9


def first(t: ProviderTrace) -> float | None:
    return None if t.time_to_first_chunk_ns is None else t.time_to_first_chunk_ns / 1e9


def speed(t: ProviderTrace) -> float | None:
    if t.time_to_first_chunk_ns is None or t.usage.output_tokens is None or t.duration_ns <= t.time_to_first_chunk_ns:
        return None
    return t.usage.output_tokens / ((t.duration_ns - t.time_to_first_chunk_ns) / 1e9)


def grouped(records: Records, key: Callable[[ProviderTrace], Any]) -> list[tuple[Any, list[ProviderTrace]]]:
    groups: dict[Any, list[ProviderTrace]] = defaultdict(list)
    for t in records:
        groups[key(t)].append(t)
    return sorted(groups.items())


def hour(t: ProviderTrace) -> int:
    return t.started_at // HOUR * 3600


def day(t: ProviderTrace) -> int:
    return t.started_at // (24 * HOUR) * 86400


def series(
    *values: Callable[[Records], Any],
    where: Callable[[ProviderTrace], bool] = lambda t: True,
    by: Callable[[ProviderTrace], str] | None = None,
    time: Callable[[ProviderTrace], int] = hour,
) -> Callable[[Records], Rows]:
    def rows(records: Records) -> Rows:
        key = (lambda t: (time(t), by(t))) if by else (lambda t: (time(t),))
        return [(*k, *(value(g) for value in values)) for k, g in grouped([t for t in records if where(t)], key)]

    return rows


def one(value: Callable[[Records], Any]) -> Callable[[Records], Rows]:
    return lambda records: [(value(records),)]


def summed(name: str) -> Callable[[Records], Any]:
    return lambda records: total([getattr(t.usage, name) for t in records])


def number(condition: Callable[[ProviderTrace], bool]) -> Callable[[Records], int]:
    return lambda records: sum(map(condition, records))


def ratio(records: Records) -> float | None:
    whole = total([t.usage.input_tokens for t in records])
    return total([t.usage.cache_read_tokens for t in records]) / whole if whole else None


def reported(t: ProviderTrace) -> bool:
    return t.usage.cache_read_tokens is not None and t.usage.input_tokens is not None


def failure_rate(records: Records) -> float:
    return sum(map(failed, records)) / len(records)


def retries(records: Records) -> int | None:
    return total([t.attempts - 1 for t in records if (t.attempts or 0) > 1])


def usage_by_model(records: Records) -> Rows:
    rows = [
        (*key, len(g), sum(map(failed, g)), *(summed(f"{name}_tokens")(g) for name in ("input", "cache_read",
         "cache_write", "output", "reasoning")), total([cost(t) for t in g]))
        for key, g in grouped(records, lambda t: (t.provider, model_of(t)))
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))


def who_uses_most(records: Records) -> Rows:
    rows = [
        (*key, len(g), summed("input_tokens")(g), summed("output_tokens")(g), total([cost(t) for t in g]))
        for key, g in grouped(records, lambda t: (t.org_id or "", t.agent_id or "", t.user_id or ""))
    ]
    return sorted(rows, key=lambda row: (-((row[4] or 0) + (row[5] or 0)), *row[:3]))[:20]


def cache_by_model(records: Records) -> Rows:
    rows = [
        (*key, len(g), *(summed(f"{n}_tokens")(g) for n in ("input", "cache_read", "cache_write")), ratio(g))
        for key, g in grouped([t for t in records if reported(t)], lambda t: (t.provider, model_of(t)))
    ]
    return sorted(rows, key=lambda row: (-row[3], row[0], row[1]))


def worst_runs(records: Records) -> Rows:
    rows = [
        (run, len(g), summed("input_tokens")(g), ratio(g))
        for run, g in grouped([t for t in records if t.run_id and reported(t)], lambda t: t.run_id)
        if len(g) > 1
    ]
    return sorted(rows, key=lambda row: (row[3], row[0]))[:20]


def latency_by_model(records: Records) -> Rows:
    rows = [
        (*key, len(g), quantile(0.5, map(seconds, g)), quantile(0.95, map(seconds, g)), quantile(0.5, map(first, g)),
         quantile(0.5, map(speed, g)))
        for key, g in grouped(records, lambda t: (t.provider, model_of(t)))
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))


def slowest(records: Records) -> Rows:
    return [
        (t.id, t.provider, model_of(t), t.status, seconds(t), first(t), t.usage.input_tokens, t.usage.output_tokens)
        for t in sorted(records, key=lambda t: (-t.duration_ns, t.id))[:20]
    ]


def failures_by(records: Records) -> Rows:
    rows = [
        (*key, len(g), sum((t.attempts or 0) > 1 for t in g))
        for key, g in grouped(
            [t for t in records if failed(t)], lambda t: (t.error_type or t.status, t.http_status or 0, model_of(t))
        )
    ]
    return sorted(rows, key=lambda row: (-row[3], *row[:3]))


def latest_failures(records: Records) -> Rows:
    return [
        (t.id, t.provider, model_of(t), t.status, t.error_type, t.http_status, t.attempts, t.error_message)
        for t in sorted((t for t in records if failed(t)), key=lambda t: t.id, reverse=True)[:50]
    ]


def chosen_call(ask: Asked) -> ProviderTrace:
    if ask.id:
        return next(t for t in RECORDS if t.id == ask.id)
    return max((t for t in RECORDS if t.step_id == ask.step_id), key=lambda t: t.id)


def the_call(ask: Asked) -> Rows:
    t, u = chosen_call(ask), chosen_call(ask).usage
    return [(
        t.id, t.provider, t.operation, model_of(t), t.status, list(t.finish_reasons), t.error_type, t.http_status,
        t.attempts, seconds(t), first(t), u.input_tokens, u.cache_read_tokens, u.cache_write_tokens, u.output_tokens,
        u.reasoning_tokens, t.step_id, t.run_id, t.agent_id, t.trace_id,
    )]  # fmt: skip


def of_the_step(ask: Asked) -> Rows:
    step = chosen_call(ask).step_id
    return [
        (t.id, model_of(t), t.status, seconds(t), t.usage.input_tokens, t.usage.output_tokens)
        for t in sorted(RECORDS, key=lambda t: t.id)
        if step is not None and t.step_id == step
    ]


def of_the_run(ask: Asked) -> Rows:
    rows: Rows = []
    entered = put_out = 0
    for t in sorted(RECORDS, key=lambda t: t.id):
        if t.run_id is not None and t.run_id == chosen_call(ask).run_id:
            entered += t.usage.input_tokens or 0
            put_out += t.usage.output_tokens or 0
            rows.append((
                t.id, t.step_id, model_of(t), t.status, seconds(t), t.usage.input_tokens, t.usage.output_tokens,
                entered, put_out,
            ))  # fmt: skip
    return rows


def p(value: Callable[[ProviderTrace], float | None]) -> Callable[[Records], Rows]:
    """p50, p95, p99."""
    return series(
        *(lambda g, share=share: quantile(share, map(value, g)) for share in (0.5, 0.95, 0.99)),
        where=lambda t: value(t) is not None,
    )


EXPECTED: dict[tuple[str, str], Callable[[Any], Rows]] = {
    ("usage", "Calls"): one(len),
    ("usage", "Input tokens"): one(summed("input_tokens")),
    ("usage", "Output tokens"): one(summed("output_tokens")),
    ("usage", "Cost"): one(lambda records: total([cost(t) for t in records])),
    ("usage", "Calls without usage"): one(number(lambda t: t.usage.source != "provider")),
    ("usage", "Calls without a price"): one(number(lambda t: t.usage.source == "provider" and cost(t) is None)),
    ("usage", "Input tokens by model"): series(
        summed("input_tokens"), where=lambda t: t.usage.input_tokens is not None, by=model_of
    ),
    ("usage", "Output tokens by model"): series(
        summed("output_tokens"), where=lambda t: t.usage.output_tokens is not None, by=model_of
    ),
    ("usage", "Calls by status"): series(len, by=lambda t: t.status),
    ("usage", "Cost per day and model"): series(
        lambda g: total([cost(t) for t in g]), where=lambda t: cost(t) is not None, by=model_of, time=day
    ),
    ("usage", "By model"): usage_by_model,
    ("usage", "Who uses most"): who_uses_most,
    ("cache", "Hit ratio"): one(lambda records: ratio([t for t in records if reported(t)])),
    ("cache", "Read from cache"): one(summed("cache_read_tokens")),
    ("cache", "Written to cache"): one(summed("cache_write_tokens")),
    ("cache", "Read per token written"): one(
        lambda records: summed("cache_read_tokens")(records) / summed("cache_write_tokens")(records)
    ),
    ("cache", "Calls that did not report it"): one(number(lambda t: t.usage.cache_read_tokens is None)),
    ("cache", "Hit ratio by model"): series(ratio, where=reported, by=model_of),
    ("cache", "Read and written"): series(summed("cache_read_tokens"), summed("cache_write_tokens")),
    ("cache", "By model"): cache_by_model,
    ("cache", "Runs that use the cache worst"): worst_runs,
    ("latency", "Duration"): p(seconds),
    ("latency", "Time to first chunk"): p(first),
    ("latency", "Time to first chunk by model, median"): series(
        lambda g: quantile(0.5, map(first, g)), where=lambda t: first(t) is not None, by=model_of
    ),
    ("latency", "Output tokens per second by model, median"): series(
        lambda g: quantile(0.5, map(speed, g)), where=lambda t: speed(t) is not None, by=model_of
    ),
    ("latency", "By model"): latency_by_model,
    ("latency", "Slowest calls"): slowest,
    ("errors", "Failure rate"): one(failure_rate),
    ("errors", "Failures"): one(number(failed)),
    ("errors", "Broken-off streams"): one(number(lambda t: t.status == "incomplete")),
    ("errors", "Cancelled or closed early"): one(number(lambda t: t.status in ("cancelled", "closed_early"))),
    ("errors", "Retries"): one(retries),
    ("errors", "Failure rate by provider"): series(failure_rate, by=lambda t: t.provider),
    ("errors", "Failures by type"): series(len, where=failed, by=lambda t: t.error_type or t.status),
    ("errors", "Retries over time"): series(retries, where=lambda t: (t.attempts or 0) > 1),
    ("errors", "Failures by type, status and model"): failures_by,
    ("errors", "Latest failures"): latest_failures,
    ("call", "The call"): the_call,
    ("call", "Request"): lambda ask: [(json.loads(chosen_call(ask).request_json or "null"),)],
    ("call", "Response"): lambda ask: [
        (json.loads(chosen_call(ask).response_json or "null"), chosen_call(ask).error_message)
    ],
    ("call", "All calls of the step"): of_the_step,
    ("call", "The run so far, call by call"): of_the_run,
}


ASKED = [
    Asked(),
    Asked(providers=("anthropic",)),
    Asked(models=("model-a", "unknown")),
    Asked(("openai",), ("model-b",)),
]
ASKED_CALLS = [Asked(id=ONE.id), Asked(step_id=STEP or "")]
