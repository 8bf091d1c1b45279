"""Usage: the provider's numbers, normalised in meaning, never invented, added up or clamped."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.usage import KNOWN_COUNTS, Usage, merge_reports
from records import patient

#: vendors' numbers follow no rule: any may be larger than the one that should contain it
counts = st.sampled_from([0, 1]) | st.integers(-5, 2**40)
ABSENT = object()
#: a count, a reported null, or nothing at all
maybe_counts = st.none() | st.just(ABSENT) | counts
#: what is not a whole number, whatever else it may be
not_counts = (
    st.booleans()
    | st.text(max_size=3)
    | st.sampled_from(["12", "1e3", float("nan"), float("inf"), -float("inf"), 0.5, 1e-300])
    | st.lists(st.integers(), max_size=2)
    | st.floats(allow_nan=False).filter(lambda value: not value.is_integer())
)


def present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not ABSENT}


def number(value: Any) -> int | None:
    return None if value is ABSENT else value


def nested(path: str, value: Any) -> dict[str, Any]:
    """An object that has ``value`` at ``path``, where ``[]`` is a list of one, and ``[X]`` one of the modality X."""
    for key in reversed(path.split(".")):
        name, is_list, label = key.removesuffix("]").partition("[")
        kind = {"type" if name == "grounding_tool_count" else "modality": label} if label else {}
        value = {name: [kind | value] if is_list else value}
    return value


def five(usage: Usage) -> tuple[int | None, ...]:
    return (
        usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
        usage.reasoning_tokens,
    )  # fmt: skip


# -- the five numbers


@pytest.mark.parametrize("raw", [None, {}, [], [1], "usage", "", 7, 0, True, 1.5])
def test_no_report(raw):
    """What is not an object with something in it is no report: five times None, source ``none``, no raw."""
    assert Usage.from_raw(raw) == Usage(source="none", raw=None)
    assert five(Usage.from_raw(raw)) == (None,) * 5


@patient
@given(uncached=maybe_counts, out=maybe_counts, read=maybe_counts, write=maybe_counts, thinking=maybe_counts)
def test_messages_shape(uncached, out, read, write, thinking):
    """Anthropic-shaped input includes what was read from and written to the cache; None stays None, 0 stays 0."""
    raw = present(
        input_tokens=uncached, output_tokens=out, cache_read_input_tokens=read, cache_creation_input_tokens=write
    ) | {"cache_creation": None, "output_tokens_details": present(thinking_tokens=thinking)}
    whole = None if number(uncached) is None else uncached + (number(read) or 0) + (number(write) or 0)
    usage = Usage.from_raw(raw)
    assert five(usage) == (whole, number(out), number(read), number(write), number(thinking))
    assert usage.details == {}
    assert (usage.source, usage.raw) == ("provider", raw)


@patient
@given(
    whole=st.none() | counts, out=maybe_counts, read=maybe_counts, write=maybe_counts, reasoning=maybe_counts,
    names=st.sampled_from([("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")]),
)  # fmt: skip
def test_openai_shape(whole, out, read, write, reasoning, names):
    """OpenAI-shaped input includes its cached part as it is sent: nothing is added; chat and Responses alike."""
    into, outof = names
    raw = present(**{into: whole, outof: out}) | {
        f"{into}_details": present(cached_tokens=read, cache_write_tokens=write),
        f"{outof}_details": present(reasoning_tokens=reasoning),
    }
    usage = Usage.from_raw(raw)
    assert five(usage) == (number(whole), number(out), number(read), number(write), number(reasoning))
    assert (usage.source, usage.raw) == ("provider", raw)


@patient
@given(
    prompt=maybe_counts, tools=maybe_counts, said=maybe_counts, thoughts=maybe_counts, cached=maybe_counts,
    names=st.sampled_from([
        ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount",
         "cachedContentTokenCount", "totalTokenCount"),
        ("total_input_tokens", "total_tool_use_tokens", "total_output_tokens", "total_thought_tokens",
         "total_cached_tokens", "total_tokens"),
    ]),
)  # fmt: skip
def test_google_shape(prompt, tools, said, thoughts, cached, names):
    """Google's counts are disjoint: input and output are sums of what was reported, the cache a part of the prompt."""
    values = dict(zip(names, (prompt, tools, said, thoughts, cached, 5), strict=True))
    raw = present(**values)

    def total(*counts: Any) -> int | None:
        reported = [count for count in counts if number(count) is not None]
        return sum(reported) if reported else None

    usage = Usage.from_raw(raw)
    assert five(usage) == (total(prompt, tools), total(said, thoughts), number(cached), None, number(thoughts))
    assert usage.details == ({} if number(tools) is None else {"tool_use_input_tokens": tools})
    assert (usage.source, usage.raw) == ("provider", raw)


def test_a_modality_of_prompt_and_tools():
    """A modality's tokens in the prompt and in the results of tools are one number, as input is."""
    lists = ("promptTokensDetails", "toolUsePromptTokensDetails")
    raw = {key: [{"modality": "TEXT", "tokenCount": count}] for key, count in zip(lists, (5, 7), strict=True)}
    raw["promptTokensDetails"] += [{"modality": "TEXT", "tokenCount": 1}, {"modality": "SMELL", "tokenCount": 9}]
    assert Usage.from_raw(raw).details == {"text_input_tokens": 13}


@patient
@given(raw=st.dictionaries(st.sampled_from(list(KNOWN_COUNTS)), st.none(), min_size=1))
def test_null_everywhere(raw):
    """A report that is null throughout reports nothing, and is kept as the report that it is (W10)."""
    usage = Usage.from_raw(raw)
    assert five(usage) == (None,) * 5
    assert usage.details == {}
    assert (usage.source, usage.raw) == ("provider", raw)


@pytest.mark.parametrize("raw", [
    {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
     "output_tokens_details": {"thinking_tokens": 0}},
    {"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
     "completion_tokens_details": {"reasoning_tokens": 0}},
    {"input_tokens": 0, "output_tokens": 0, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
     "output_tokens_details": {"reasoning_tokens": 0}},
])  # fmt: skip
def test_zero_is_reported(raw):
    """A reported 0 is 0, in all five places and in each shape (W12)."""
    assert five(Usage.from_raw(raw)) == (0, 0, 0, 0, 0)


def test_the_shape_decides():
    """W11: Anthropic-shaped usage of any provider (Bedrock, MiniMax) includes its cache; nobody asks who sent it."""
    usage = Usage.from_raw(
        {"input_tokens": 10, "output_tokens": 42, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 90}
    )
    assert five(usage) == (1000, 42, 900, 90, None)


@pytest.mark.parametrize(("raw", "whole"), [
    ({"prompt_tokens": 1000, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 50}, 1000),
    ({"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 900}, "cache_read_input_tokens": 900}, 1000),
    ({"prompt_tokens": 1000, "cache_creation": {"ephemeral_5m_input_tokens": 50}}, 1000),
])  # fmt: skip
def test_a_vendors_copy_is_not_added(raw, whole):
    """An OpenAI-shaped object to which a gateway adds Anthropic's names is still OpenAI-shaped."""
    usage = Usage.from_raw(raw)
    assert (usage.input_tokens, usage.raw) == (whole, raw)


def test_gemini_compatible_thoughts():
    """Thinking under its other name is reasoning, and the first name wins if both are there."""
    details = {"thinking_tokens": 7}
    assert Usage.from_raw({"prompt_tokens": 1, "completion_tokens_details": details}).reasoning_tokens == 7
    both = details | {"reasoning_tokens": 0}
    assert Usage.from_raw({"prompt_tokens": 1, "completion_tokens_details": both}).reasoning_tokens == 0


def test_cache_writes_of_openai():
    """OpenAI reports cache writes, split by lifetime, since GPT-5.6 (the predecessor thought that it never would)."""
    written = {"cached_tokens": 8, "cache_write_tokens": 4012,
               "cache_write_tokens_details": {"ttl_30m_tokens": 4000, "ttl_12h_tokens": 12}}  # fmt: skip
    for into in ("prompt_tokens", "input_tokens"):
        usage = Usage.from_raw({into: 4020, f"{into}_details": written})
        assert five(usage) == (4020, None, 8, 4012, None)
        assert usage.details == {"cache_write_30m_tokens": 4000, "cache_write_12h_tokens": 12}


@pytest.mark.parametrize(("raw", "expected"), [
    # Azure-hosted Grok: more cached than prompt tokens
    ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 64}}, (10, None, 64, None, None)),
    # xAI: reasoning outside of completion tokens
    ({"completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 300}}, (None, 3, None, None, 300)),
    # a total that is no sum, and numbers below zero
    ({"prompt_tokens": -1, "completion_tokens": 0, "total_tokens": 99}, (-1, 0, None, None, None)),
    ({"input_tokens": 5, "cache_read_input_tokens": -7, "output_tokens": 1}, (-2, 1, -7, None, None)),
])  # fmt: skip
def test_never_clamped(raw, expected):
    """Vendors break their own cross-field rules: what was sent is kept, neither cut to fit nor refused."""
    assert five(Usage.from_raw(raw)) == expected


# -- what counts as a count


@patient
@given(value=not_counts, path=st.sampled_from([path for path in KNOWN_COUNTS if "." not in path]))
def test_what_is_not_a_count(value, path):
    """Booleans, texts, fractions, NaN, infinity and lists are not counts: not reported, yet kept in ``raw``."""
    usage = Usage.from_raw({path: value})
    assert five(usage) == (None,) * 5
    assert usage.details == {}
    assert usage.raw is not None
    assert usage.raw[path] is value


@patient
@given(value=st.integers(-(2**53), 2**53), path=st.sampled_from([path for path in KNOWN_COUNTS if "[" not in path]))
def test_whole_floats_are_counts(value, path):
    """Some gateways write 12 as 12.0: that is the same count, and an integer from then on."""
    usage = Usage.from_raw(nested(path, float(value)))
    assert usage == Usage.from_raw(nested(path, value))
    assert all(type(found) is int for found in (*five(usage), *usage.details.values()) if found is not None)


@patient
@given(
    raw=st.recursive(
        counts | not_counts | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    sorted({part.partition("[")[0] for path in KNOWN_COUNTS for part in path.split(".")} | {"modality"})
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_any_object_is_read(raw):
    """Known names with values of any type in any nesting are read, and only whole numbers come out."""
    usage = Usage.from_raw(raw)
    assert all(type(value) is int for value in usage.details.values())
    assert all(value is None or type(value) is int for value in five(usage))
    assert usage.source == ("provider" if isinstance(raw, dict) and raw else "none")
    assert set(usage.details) <= set(KNOWN_COUNTS.values())


# -- details


#: where -> what it holds and how that is called in ``details``; users and dashboards know these names
MODALITIES = {f"{kind}_tokens": f"{kind}_{{way}}_tokens" for kind in ("audio", "image", "text")}
LIFETIMES = {"ttl_30m_tokens": "cache_write_30m_tokens", "ttl_12h_tokens": "cache_write_12h_tokens"}
#: cache writes by lifetime, as gateways spell Anthropic's
SPLITS = {
    f"{where}.ephemeral_{time}_input_tokens": f"cache_write_{time}_tokens"
    for where in ("cache_creation_token_details", "cache_creation") for time in ("5m", "1h")
}  # fmt: skip
OWN_NAMES = [
    "prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "num_cached_tokens", "cached_tokens", "draft_tokens",
]  # fmt: skip
DETAILS: dict[str, dict[str, str]] = {
    "": {
        **{name: name for name in OWN_NAMES}, "claude_cache_creation_5_m_tokens": "cache_write_5m_tokens",
        "claude_cache_creation_1_h_tokens": "cache_write_1h_tokens",
    },
    "prompt_tokens_details": {
        **{key: name.format(way="input") for key, name in MODALITIES.items()}, "video_tokens": "video_input_tokens",
        "web_search_requests": "web_search_requests", **SPLITS,
    },
    "completion_tokens_details": {
        **{key: name.format(way="output") for key, name in MODALITIES.items()},
        "accepted_prediction_tokens": "accepted_prediction_tokens",
        "rejected_prediction_tokens": "rejected_prediction_tokens",
    },
    "input_tokens_details": {**{key: name.format(way="input") for key, name in MODALITIES.items()}, **SPLITS},
    "input_token_details": {f"{kind}_tokens": f"{kind}_input_tokens" for kind in ("audio", "text")},
    "output_tokens_details": {
        **{key: name.format(way="output") for key, name in MODALITIES.items()},
        "tool_output_tokens": "tool_output_tokens",
    },
    "prompt_tokens_details.cache_write_tokens_details": LIFETIMES,
    "input_tokens_details.cache_write_tokens_details": LIFETIMES,
    "cache_creation": {f"ephemeral_{time}_input_tokens": f"cache_write_{time}_tokens" for time in ("5m", "1h", "24h")},
    "server_tool_use": {name: name for name in ("web_search_requests", "web_fetch_requests")},
    "iterations[]": {
        "input_tokens": "iterations_input_tokens",
        "cache_read_input_tokens": "iterations_cache_read_tokens",
        "cache_creation_input_tokens": "iterations_cache_write_tokens",
        "output_tokens": "iterations_output_tokens",
    },
    "iterations[].cache_creation": {
        f"ephemeral_{time}_input_tokens": f"iterations_cache_write_{time}_tokens" for time in ("5m", "1h")
    },
}  # fmt: skip
GOOGLE = {
    "toolUsePromptTokenCount": "tool_use_input_tokens", "total_tool_use_tokens": "tool_use_input_tokens",
    "initial_input_tokens": "initial_input_tokens", "raw_prompt_token": "raw_prompt_tokens",
    "grounding_tool_count[google_search].count": "web_search_requests",
    "grounding_tool_count[google_maps].count": "map_search_requests",
    "grounding_tool_count[retrieval].count": "retrieval_requests",
    "metadata.billableCharacterCount": "billable_characters", "textCount": "text_characters", "imageCount": "images",
    "videoDurationSeconds": "video_seconds", "audioDurationSeconds": "audio_seconds",
}  # fmt: skip
#: Google's lists by modality: for generated content, and for interactions
BY_MODALITY = {
    "{}_input_tokens": (
        ("promptTokensDetails", "promptTokenDetails", "toolUsePromptTokensDetails"),
        ("input_tokens_by_modality", "tool_use_tokens_by_modality"),
    ),
    "{}_output_tokens": (("candidatesTokensDetails", "responseTokensDetails"), ("output_tokens_by_modality",)),
    "cache_read_{}_tokens": (("cacheTokensDetails",), ("cached_tokens_by_modality",)),
}
for name, (generated, interactions) in BY_MODALITY.items():
    for kind in ("text", "image", "audio", "video", "document"):
        GOOGLE |= {f"{key}[{kind.upper()}].tokenCount": name.format(kind) for key in generated}
        GOOGLE |= {f"{key}[{kind}].tokens": name.format(kind) for key in interactions}
NAMES = GOOGLE | {f"{where}.{key}".lstrip("."): name for where, names in DETAILS.items() for key, name in names.items()}


@pytest.mark.parametrize("path", NAMES)
def test_details(path):
    """Each finer count gets its one name in ``details``, zero as well as more."""
    shape = {} if path.startswith(("prompt", "completion")) else {"cache_creation_input_tokens": None}
    for count in (0, 7):
        assert Usage.from_raw(shape | nested(path, count)).details == {NAMES[path]: count}


@pytest.mark.parametrize("path", sorted(path for path in KNOWN_COUNTS.keys() - NAMES.keys() if "_usage." not in path))
def test_no_details(path):
    """What the five numbers tell already, and totals that are only their sum, are not told again."""
    assert Usage.from_raw(nested(path, 7)).details == {}


@pytest.mark.parametrize("raw", [
    {"prompt_tokens": 5, "vendor_tokens": 3, "prompt_tokens_details": {"vendor_tokens": 4}},
    {"input_tokens": 5, "total_tokens": 8, "server_tool_use": {"x_search_requests": 1}},
])  # fmt: skip
def test_unknown_counts(raw):
    """A count that nobody told us of gets no name, but stays in ``raw``."""
    usage = Usage.from_raw(raw)
    assert usage.details == {}
    assert usage.raw == raw


passes = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("message"),
        "input_tokens": counts,
        "output_tokens": counts | st.none(),
        "cache_read_input_tokens": counts | st.none(),
        "cache_creation_input_tokens": counts,
        "cache_creation": st.none() | st.fixed_dictionaries({}, optional={"ephemeral_5m_input_tokens": counts}),
    },
)


@patient
@given(iterations=st.lists(passes, max_size=4), total=counts)
def test_iterations(iterations, total):
    """The passes of one call are summed in ``details`` only, their input inclusive like the total's."""
    raw = {"input_tokens": total, "cache_read_input_tokens": 0, "iterations": iterations}
    usage = Usage.from_raw(raw)

    def summed(*keys: str) -> int | None:
        given = [item[key] for item in iterations for key in keys if item.get(key) is not None]
        return sum(given) if given else None

    inclusive = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    has_input = any("input_tokens" in item for item in iterations)
    assert usage.details.get("iterations_input_tokens") == (summed(*inclusive) if has_input else None)
    assert usage.details.get("iterations_output_tokens") == summed("output_tokens")
    assert usage.details.get("iterations_cache_read_tokens") == summed("cache_read_input_tokens")
    assert usage.details.get("iterations_cache_write_tokens") == summed("cache_creation_input_tokens")
    assert usage.input_tokens == total


# -- a report that is not the last word

SPLIT = {"input_tokens": 1, "cache_creation_input_tokens": 30,
         "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}}  # fmt: skip


def test_split_by_lifetime():
    """The split of cache writes by lifetime is kept apart: its parts have different prices."""
    assert Usage.from_raw(SPLIT).details == {"cache_write_5m_tokens": 10, "cache_write_1h_tokens": 20}


def test_a_split_makes_the_shape():
    """The split alone tells Anthropic's shape; what comes as another kind of mapping is read as well."""
    usage = Usage.from_raw(MappingProxyType({"input_tokens": 1, "cache_creation": SPLIT["cache_creation"]}))
    assert usage.details == {"cache_write_5m_tokens": 10, "cache_write_1h_tokens": 20}
    assert type(usage.raw) is dict


def test_stale_split():
    """A split that is older than its total is not told; the total is, and ``raw`` has both."""
    usage = Usage.from_raw(SPLIT, stale_split=True)
    assert usage.details == {}
    assert usage.cache_write_tokens == 30
    assert usage.raw == SPLIT


@patient
@given(raw=st.dictionaries(st.sampled_from(list(KNOWN_COUNTS)), counts, min_size=1))
def test_partial(raw):
    """A report from a stream that broke off has the same numbers and says ``partial``; marking it twice is no more."""
    whole, part = Usage.from_raw(raw), Usage.from_raw(raw, final=False)
    assert part.source == "partial"
    assert whole.as_partial() == part == part.as_partial()
    assert five(part) == five(whole)
    assert (part.details, part.raw) == (whole.details, whole.raw)


def test_nothing_stays_nothing():
    """No report at all does not turn into a lower bound."""
    assert Usage().as_partial() == Usage()
    assert Usage.from_raw({}, final=False) == Usage()


# -- merging reports

reports = st.lists(st.dictionaries(st.sampled_from("abcd"), st.none() | counts | st.lists(counts), max_size=4))


@patient
@given(reports=reports)
def test_the_last_value_wins(reports):
    """For each key the last value that is not null stands; a key that was only ever null is null; nothing is added."""
    merged = merge_reports(reports)
    assert merged.keys() == {key for report in reports for key in report}
    for key, value in merged.items():
        told = [report[key] for report in reports if report.get(key) is not None]
        assert value == (told[-1] if told else None)


@patient
@given(reports=reports, at=st.integers(0, 5))
def test_merging_in_steps(reports, at):
    """Merging what is merged already gives the same."""
    assert merge_reports([merge_reports(reports[:at]), *reports[at:]]) == merge_reports(reports)


def test_merging_leaves_the_reports_alone():
    """The reports are the caller's and stay as they are."""
    first, second = {"input_tokens": 1}, {"input_tokens": 2, "output_tokens": None}
    assert merge_reports([first, second]) == {"input_tokens": 2, "output_tokens": None}
    assert (first, second) == ({"input_tokens": 1}, {"input_tokens": 2, "output_tokens": None})


def test_the_delta_corrects_the_start():
    """W9: what ``message_delta`` restates (input, cache, server tools) replaces ``message_start``'s: 25 and 1900."""
    start = {"input_tokens": 10, "cache_read_input_tokens": 900, "output_tokens": 1, "service_tier": "standard"}
    delta = {"input_tokens": 25, "cache_read_input_tokens": 1900, "cache_creation_input_tokens": None,
             "output_tokens": 42, "server_tool_use": {"web_search_requests": 2}}  # fmt: skip
    usage = Usage.from_raw(merge_reports([start, delta]))
    assert five(usage) == (1925, 42, 1900, None, None)
    assert usage.details == {"web_search_requests": 2}
    assert usage.raw is not None
    assert usage.raw["service_tier"] == "standard"


def test_cumulative_reports_are_not_added():
    """W13: three cumulative reports of one stream are its last one: 800 cached of 1000, not 2400 of 1000."""
    chunks = [
        {"prompt_tokens": 1000, "completion_tokens": out, "prompt_tokens_details": {"cached_tokens": 800},
         "completion_tokens_details": {"reasoning_tokens": out // 2}}
        for out in (20, 64, 100)
    ]  # fmt: skip
    assert five(Usage.from_raw(merge_reports(chunks))) == (1000, 100, 800, None, 50)
