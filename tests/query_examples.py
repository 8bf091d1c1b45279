"""Records and queries for tests of the query language, so made that many records have what queries ask for."""

from __future__ import annotations

from hypothesis import strategies as st

from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import DAY, NOON, make_trace

_texts = st.sampled_from(
    ["a", "b", "ab", "aab", "A", "ü", "", "a b", "a,b", "a*b", 'a"b', "a%b_", "a\\b", "[a]", "none"]
)
_numbers = st.sampled_from([0, 1, 2, 10, 999, 1000, 2**40])
_attribute_values = (
    _texts
    | st.sampled_from([None, True, False, 0, 1, 1.5, -2, 0.25, 1000, "1", "1.5", "-2", "1e3", "01", "true", [1]])
    | st.sampled_from(["a\nb", "ü\U0001f600"])
    | st.sampled_from([2**53, 2**53 + 1, str(2**53), str(2**53 + 1), "9" * 19, "0.10", -(2**63)])
)  # fmt: skip

#: records with few different values
records = st.builds(
    make_trace,
    id=st.uuids().map(str),
    user_id=st.none() | _texts,
    agent_tags=st.lists(_texts, max_size=3).map(tuple),
    attributes=st.dictionaries(st.sampled_from(["n", "a b", "x.y", "ü", '"']), _attribute_values, max_size=3),
    request_model=st.none() | _texts,
    response_model=st.none() | _texts,
    finish_reasons=st.lists(st.none() | _texts, max_size=2).map(tuple),
    stream=st.booleans(),
    status=st.sampled_from(["ok", "error", "cancelled", "closed_early", "incomplete"]),
    http_status=st.none() | _numbers,
    started_at=st.sampled_from([NOON - 1, NOON, NOON + 1, NOON + DAY, NOON - DAY, 0, -1]),
    duration_ns=_numbers,
    time_to_first_chunk_ns=st.none() | _numbers,
    usage=st.builds(Usage, input_tokens=st.none() | _numbers, output_tokens=st.none() | _numbers),
    request_json=st.none() | st.sampled_from(['{"say": "Hello"}', '{"say": "h\\u00fc"}', '{"say": "hü \\"x\\""}']),
    response_json=st.none() | st.sampled_from(['{"text": "HELLO world"}', "[]"]),
)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pattern(parts: list[str]) -> str:
    return "*".join(_quoted(part) if part else "" for part in parts)


_values = (
    _texts.map(_quoted)
    | st.lists(_texts, min_size=2, max_size=4).map(_pattern)
    | st.sampled_from(
        ["none", "any", "a", "a\\*b", "a\\,b", str(2**53), str(2**53 + 1), "0.30000000000000004", "9" * 19]
    )
)
_lists = st.lists(_values, min_size=1, max_size=3).map(",".join)
_comparison = st.sampled_from([">", ">=", "<", "<=", ":", "=", "!="])
_limits = _numbers.map(str)
_ranges = st.builds("{}..{}".format, _limits, _limits)
_attribute_names = st.sampled_from(
    ["n", "x.y", "attributes.n", 'attributes."a b"', 'attributes."ü"', 'attributes."\\""']
)
_times = st.sampled_from([
    "2026-01-31", "2026-01-31T12:00", "2026-01-31T12:00:00+00:00", "2026-02-01", "1970-01-01", "1h",
])  # fmt: skip
_text_keys = st.sampled_from(["user", "user_id", "model", "response_model", "tag", "finish_reasons", "n", "x.y"])

_terms = st.one_of(
    st.builds("{}{}{}".format, _text_keys | _attribute_names, st.sampled_from([":", "=", "!="]), _lists),
    st.builds("{}{}{}".format, st.sampled_from(["tokens", "input", "http_status"]), _comparison, _limits),
    st.builds("{}:{}".format, st.sampled_from(["tokens", "output_tokens"]), _ranges | st.sampled_from(["none", "any"])),
    st.builds("{}{}{}ns".format, st.sampled_from(["duration", "ttfc"]), _comparison, _limits),
    st.builds("{}{}{}".format, _attribute_names, _comparison, st.sampled_from(["1", "1.5", "-2", "0", "0.25", "1000"])),
    st.builds("{}:{}".format, _attribute_names, st.sampled_from(["0..1", "-2..1.5", "1.5", "true", "false", "none"])),
    st.builds("status:{}".format, st.sampled_from(["ok", "error,incomplete", "cancelled"])),
    st.builds("stream:{}".format, st.sampled_from(["true", "false"])),
    st.builds("started{}{}".format, _comparison, _times),
    st.builds("{}:{}".format, st.sampled_from(["since", "until"]), _times),
    st.builds('"{}"'.format, st.sampled_from(["hello", "O W", "hü", '\\"x\\"', "%", "missing"])),
)
_negated = _terms.map(lambda term: term if term.startswith(("since", "until")) else f"-{term}")

#: queries of one to three terms
queries = st.lists(_terms | _negated, min_size=1, max_size=3).map(" ".join)


def ids(traces: list[ProviderTrace]) -> list[str]:
    """Their ids, in an order of their own."""
    return sorted(trace.id for trace in traces)
