"""Costs of models, worked out by hand from the vendors' price lists: dollars per million tokens stand in each row."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from llmspan.cost import cost_of
from llmspan.trace import ProviderTrace, nanoseconds_of
from llmspan.usage import Usage
from records import make_trace

pytest.importorskip("genai_prices")


def openai(
    prompt: int, output: int, *, cached: int = 0, reasoning: int = 0, written: int = 0, searches: int = 0
) -> Usage:
    details: dict[str, Any] = {"cached_tokens": cached}
    details |= {"cache_write_tokens": written} if written else {}
    return Usage.from_raw(
        {
            "input_tokens": prompt,
            "input_tokens_details": details,
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": reasoning},
        },
        beside={"tool_usage": {"web_search": {"num_requests": searches}}} if searches else None,
    )


def claude(fresh: int, output: int, *, read: int = 0, short: int = 0, long: int = 0, **more: Any) -> Usage:
    lifetimes = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
    raw = {"input_tokens": fresh, "cache_read_input_tokens": read, "cache_creation_input_tokens": short + long}
    return Usage.from_raw({**raw, "cache_creation": lifetimes, "output_tokens": output, **more})


def plain(prompt: int, output: int, *, read: int | None = None, **details: int) -> Usage:
    return Usage(input_tokens=prompt, output_tokens=output, cache_read_tokens=read, details=details, source="provider")


def gemini(prompt: int, output: int, **more: Any) -> Usage:
    """Usage as the API reports it: ``output`` is what was said, beside which thoughts and tools are counted."""
    names = {
        "thoughts": "thoughtsTokenCount", "tools": "toolUsePromptTokenCount", "cached": "cachedContentTokenCount",
        "traffic": "trafficType", "prompt_of": "promptTokensDetails", "said_of": "candidatesTokensDetails",
        "cached_of": "cacheTokensDetails",
    }  # fmt: skip
    raw = {"promptTokenCount": prompt, "candidatesTokenCount": output}
    return Usage.from_raw(raw | {
        names[key]: [{"modality": kind, "tokenCount": count} for kind, count in value.items()]
        if isinstance(value, dict) else value
        for key, value in more.items()
    })  # fmt: skip


TABLE: list[tuple[str, str, str, str | None, Usage, str]] = [
    # provider, model, day, tier, usage, dollars
    # $1.25 in, $0.125 cached, $10 out: (600*1.25 + 400*0.125 + 2000*10) / 1e6; reasoning is part of the output
    ("openai", "gpt-5", "2026-01-31", "default", openai(1000, 2000, cached=400, reasoning=1500), "0.0208"),
    # $0.25 in, $0.025 cached, $2 out
    ("openai", "gpt-5-mini-2025-08-07", "2026-01-31", None, openai(10_000, 300, cached=8_000), "0.0013"),
    # $0.40 in, $1.60 out, two searches at $10 a thousand
    ("openai", "gpt-4.1-mini", "2026-01-31", None, openai(1_000, 1_000, searches=2), "0.022"),
    # $2.50 in, $1.25 cached, $10 out
    ("openai", "gpt-4o", "2026-01-31", None, openai(2_000, 100, cached=1_000), "0.00475"),
    # $1.10 in, $0.275 cached, $4.40 out
    ("openai", "o4-mini", "2026-01-31", None, openai(4_000, 1_000, cached=2_000, reasoning=900), "0.00715"),
    # until 2025-06-09 $10 in and $40 out, then $2 and $8
    ("openai", "o3", "2025-06-09", None, openai(1_000, 1_000), "0.05"),
    ("openai", "o3", "2025-06-10", None, openai(1_000, 1_000), "0.01"),
    # up to 272,000 tokens $2.50 and $15, beyond $5 and $22.50 for all of them; cached $0.25, beyond $0.50
    ("openai", "gpt-5.4", "2026-11-01", None, openai(272_000, 1_000), "0.695"),
    ("openai", "gpt-5.4", "2026-11-01", None, openai(300_000, 1_000, cached=100_000), "1.0725"),
    # cache writes at $2.50, reads at $0.20, in $2, out $10
    ("openai", "gpt-6-sol", "2026-11-01", None, openai(10_000, 500, cached=3_000, written=4_000), "0.0216"),
    # flex is half the price, priority and fast twice
    ("openai", "gpt-5", "2026-11-01", "flex", openai(1_000, 2_000, cached=400, reasoning=1_500), "0.0104"),
    ("openai", "gpt-5", "2026-11-01", "priority", openai(1_000, 2_000, cached=400), "0.0416"),
    # $0.02 for embeddings
    ("openai", "text-embedding-3-small", "2026-01-31", None, plain(5_000, 0), "0.0001"),
    # $5 in, $0.50 read, $6.25 written for 5 minutes, $10 for an hour, $25 out
    (
        "anthropic", "claude-opus-5", "2026-11-01", "standard",
        claude(1_000, 400, read=10_000, short=2_000, long=3_000), "0.0625",
    ),
    # $1 in, $0.10 read, $1.25 and $2 written, $5 out, three searches at $10 a thousand
    (
        "anthropic", "claude-haiku-4-5-20251001", "2026-11-01", "standard",
        claude(500, 100, read=2_000, short=400, long=100, server_tool_use={"web_search_requests": 3}), "0.0319",
    ),
    # $3 in and $15 out up to 200,000 tokens, $6 and $22.50 beyond; what was cached counts towards the limit
    ("anthropic", "claude-sonnet-4-5", "2026-11-01", "standard", claude(200_000, 1_000), "0.615"),
    ("anthropic", "claude-sonnet-4-5", "2026-11-01", "standard", claude(150_000, 1_000, read=50_001), "0.9525006"),
    # until 2026-03-12 $10 in and $37.50 out beyond 200,000 tokens, then $5 and $25 whatever the size
    ("anthropic", "claude-opus-4-6", "2026-03-12", "standard", claude(300_000, 1_000), "3.0375"),
    ("anthropic", "claude-opus-4-6", "2026-03-13", "standard", claude(300_000, 1_000), "1.525"),
    # a batch at half the price, cache writes of an hour as well: $2.50 in, $5 an hour, $0.25 read, $12.50 out
    ("anthropic", "claude-opus-4-8", "2026-11-01", "batch", claude(1_000, 1_000, read=4_000, long=1_000), "0.021"),
    # fast mode: $10 in, $50 out
    ("anthropic", "claude-opus-4-8", "2026-11-01", "standard", claude(1_000, 1_000, speed="fast"), "0.06"),
    # $0.80 in, $0.08 read, $4 out
    ("anthropic", "claude-3-5-haiku-latest", "2026-01-31", None, claude(1_000, 500, read=1_000), "0.00288"),
    # $0.30 in, $1 audio in, $2.50 out
    ("gcp.gemini", "gemini-2.5-flash", "2026-01-31", None, plain(3_000, 200, audio_input_tokens=1_000), "0.0021"),
    # $1.25 in, $0.125 read, $10 out; beyond 200,000 tokens $2.50, $0.25, $15
    ("gcp.vertex_ai", "gemini-2.5-pro", "2026-01-31", None, plain(1_000, 100, read=400), "0.0018"),
    ("gcp.gemini", "gemini-2.5-pro", "2026-01-31", None, plain(200_001, 100, read=100_000), "0.2765025"),
    # thoughts are output, results of tools input, what was cached a part of the prompt:
    # in millionths 600*0.30 + 400*0.03 + 500*0.30 + (100 + 900)*2.50
    ("gcp.gemini", "gemini-2.5-flash", "2026-01-31", "standard",
     gemini(1_000, 100, thoughts=900, cached=400, tools=500), "0.002842"),
    # beyond 200,000 tokens with the results of tools: 200,001 at $2.50, 1,000 of thoughts and answer at $15
    ("gcp.gemini", "models/gemini-2.5-pro", "2026-01-31", None, gemini(150_001, 400, tools=50_000, thoughts=600),
     "0.5150025"),
    ("gcp.gemini", "gemini-2.5-pro", "2026-01-31", None, gemini(150_000, 400, tools=50_000, thoughts=600), "0.26"),
    # named by its path on Vertex AI; $2 in, $0.20 read, $12 out
    ("gcp.vertex_ai", "projects/p/locations/global/publishers/google/models/gemini-3.1-pro-preview", "2026-11-01", None,
     gemini(10_000, 500, cached=8_000, traffic="ON_DEMAND"), "0.0116"),
    # audio: $1, from the cache $0.10; text $0.30, from the cache $0.03:
    # in millionths 1,000*0.30 + 500*0.03 + 1,000*1 + 1,500*0.10 + 100*2.50
    ("gcp.gemini", "gemini-2.5-flash", "2026-01-31", None,
     gemini(4_000, 100, cached=2_000, prompt_of={"TEXT": 1_500, "AUDIO": 2_500},
            cached_of={"TEXT": 500, "AUDIO": 1_500}),
     "0.001715"),
    # an image of 1,290 tokens at $30, ten of text at $2.50, 20 in at $0.30
    ("gcp.gemini", "gemini-2.5-flash-image", "2026-01-31", None,
     gemini(20, 1_300, said_of={"TEXT": 10, "IMAGE": 1_290}), "0.038731"),
    # embeddings: $0.20 for text, $0.45 for images
    ("gcp.gemini", "gemini-embedding-2", "2026-11-01", None,
     Usage.from_raw({"promptTokenCount": 261, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 3},
                                                                     {"modality": "IMAGE", "tokenCount": 258}]}),
     "0.0001167"),
    # $3 in, $0.75 read, $15 out
    ("x_ai", "grok-4-0709", "2026-01-31", None, plain(1_000, 100, read=500), "0.003375"),
    # $0.59 in, $0.79 out
    ("groq", "llama-3.3-70b-versatile", "2026-01-31", None, plain(1_000, 1_000), "0.00138"),
    # as OpenAI sells it
    ("azure.ai.openai", "gpt-4o", "2026-01-31", None, openai(1_000, 100), "0.0035"),
]  # fmt: skip


def record(provider: str, model: str, day: str, tier: str | None, usage: Usage) -> ProviderTrace:
    noon = nanoseconds_of(datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC))
    return make_trace(provider=provider, request_model=model, started_at=noon, service_tier=tier, usage=usage)


@pytest.mark.parametrize(
    ("provider", "model", "day", "tier", "usage", "dollars"),
    TABLE,
    ids=[f"{at} {row[1]}" for at, row in enumerate(TABLE)],
)
def test_the_cost_is_what_the_price_list_says(
    provider: str, model: str, day: str, tier: str | None, usage: Usage, dollars: str
) -> None:
    """Cache reads and writes by lifetime, tiers of service and of size, dates, batches, searches and audio."""
    cost = cost_of(record(provider, model, day, tier, usage))
    assert (cost.amount, cost.currency, cost.reason) == (Decimal(dollars), "USD", "")


def test_fifteen_models_are_in_the_table() -> None:
    """The table covers at least fifteen models."""
    assert len({row[1] for row in TABLE}) >= 15


@pytest.mark.parametrize(
    ("model", "tier", "usage", "reason"),
    [
        ("gpt-5", "scale", openai(1_000, 10), "service tier scale"),
        ("gpt-5-nano", "priority", openai(1_000, 10), "service tier priority"),
        ("gpt-5", "batch", openai(1_000, 10), "service tier batch"),  # in January the batch price was not in the data
        ("no-such-model", "default", openai(1_000, 10), "unknown model"),
    ],
)
def test_a_price_that_is_not_in_the_data_is_not_guessed(model: str, tier: str, usage: Usage, reason: str) -> None:
    """A tier that the data has no price for at the time of the call is a reason, not the list price."""
    cost = cost_of(record("openai", model, "2026-01-31", tier, usage))
    assert (cost.amount, cost.reason) == (None, reason)


@pytest.mark.parametrize(("traffic", "reason"), [
    ("PROVISIONED_THROUGHPUT", "service tier provisioned_throughput"), ("ON_DEMAND_FLEX", "service tier flex"),
    ("ON_DEMAND", ""), ("TRAFFIC_TYPE_UNSPECIFIED", ""), (None, ""), (7, ""),
])  # fmt: skip
def test_traffic_on_vertex_ai(traffic: Any, reason: str) -> None:
    """Traffic that is not paid by the list price has the price of its tier, or none."""
    usage = gemini(1_000, 100, traffic=traffic)
    assert cost_of(record("gcp.vertex_ai", "gemini-2.5-pro", "2026-01-31", None, usage)).reason == reason


def test_images_and_video_have_the_price_of_text_where_there_is_no_other() -> None:
    """A modality without a price of its own is a part of the input or the output as any other."""
    parts = {"image_input_tokens": 500, "image_output_tokens": 50, "video_input_tokens": 100}
    costs = {
        cost_of(record("openai", "gpt-4o", "2026-01-31", None, plain(1_000, 100, **details))).amount
        for details in ({}, parts)
    }
    assert costs == {Decimal("0.0035")}
