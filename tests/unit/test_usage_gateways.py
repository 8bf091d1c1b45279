"""Usage of gateways to Anthropic's models: OpenAI's totals, with Anthropic's caches in one of many spellings."""

from __future__ import annotations

from typing import Any

import pytest

from llmspan.usage import Usage

SPLIT = {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 200}
LIFETIMES = {"cache_write_5m_tokens": 300, "cache_write_1h_tokens": 200}


def chat(details: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    given = {} if details is None else {"prompt_tokens_details": details}
    return {"prompt_tokens": 2000, "completion_tokens": 40, "total_tokens": 2040, **given, **more}


#: as each gateway sends 900 cached tokens, 500 written ones (300 for five minutes, 200 for an hour)
LITELLM = {"cached_tokens": 900, "cache_creation_tokens": 500, "cache_creation_token_details": SPLIT}
ANTHROPICS = {"cache_creation_input_tokens": 500, "cache_read_input_tokens": 900}
WHOLE: dict[str, dict[str, Any]] = {
    "LiteLLM": chat(LITELLM, **ANTHROPICS),
    "LiteLLM, only in the details": chat(LITELLM),
    "LiteLLM, written twice": chat({**LITELLM, "cache_write_tokens": 500}, **ANTHROPICS),
    "the split at the top": chat({"cached_tokens": 900}, **ANTHROPICS, cache_creation=SPLIT),
    "without details": chat(None, **ANTHROPICS, cache_creation=SPLIT),
    "Qwen": chat({"cached_tokens": 900, "cache_creation_input_tokens": 500, "cache_creation": SPLIT}),
    "new-api": chat({"cached_tokens": 900, "cached_creation_tokens": 500}, input_tokens=0, input_tokens_details=None,
                    claude_cache_creation_5_m_tokens=300, claude_cache_creation_1_h_tokens=200),
    "LiteLLM's Responses": {"input_tokens": 2000, "output_tokens": 40, "input_tokens_details": LITELLM, **ANTHROPICS},
    "Responses, at the top": {"input_tokens": 2000, "output_tokens": 40, "input_tokens_details": {"cached_tokens": 900},
                              **ANTHROPICS, "cache_creation": SPLIT},
}  # fmt: skip


@pytest.mark.parametrize("gateway", WHOLE)
def test_caches_of_gateways(gateway: str) -> None:
    """Reads, writes and their lifetimes are told; the total, which includes them, is as it was sent."""
    usage = Usage.from_raw(WHOLE[gateway])
    assert (usage.input_tokens, usage.output_tokens) == (2000, 40)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (900, 500)
    assert usage.details == LIFETIMES
    assert usage.raw == WHOLE[gateway]


@pytest.mark.parametrize("details", [None, {"cached_tokens": None}])
def test_zeros_beside_openais_totals(details: Any) -> None:
    """Zeros under Anthropic's names, which gateways send for models without such a cache, are no report."""
    usage = Usage.from_raw(chat(details, cache_creation_input_tokens=0, cache_read_input_tokens=0,
                                cache_creation={"ephemeral_5m_input_tokens": 0}))  # fmt: skip
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.details) == (None, None, {})


def test_zeros_in_the_details():
    """A zero in the details is a report, as it is under OpenAI's own names."""
    usage = Usage.from_raw(chat({"cached_tokens": 0, "cache_creation_tokens": 0}))
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (0, 0)


def test_the_first_that_is_reported_counts():
    """OpenAI's own name comes first; null there is no report, and nothing is added up."""
    both = {"cached_tokens": 1, "cache_write_tokens": 2, "cache_creation_tokens": 3, "cache_read_input_tokens": 4}
    usage = Usage.from_raw(chat(both, cache_creation_input_tokens=5, cache_read_input_tokens=6))
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (1, 2)
    usage = Usage.from_raw(chat({"cache_write_tokens": None, "cache_creation_tokens": 3}))
    assert usage.cache_write_tokens == 3


def test_anthropics_own_shape_stays_its_own():
    """Without OpenAI's totals the same names are Anthropic's: the total is the sum of what was sent apart."""
    usage = Usage.from_raw({"input_tokens": 600, "output_tokens": 40, **ANTHROPICS, "cache_creation": SPLIT})
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (2000, 900, 500)
    assert usage.details == LIFETIMES
