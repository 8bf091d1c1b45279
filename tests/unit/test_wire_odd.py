"""Whatever a gateway may send: odd values anywhere, mixtures, bytes without meaning; never an error."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interaction import wire_ids
from llmspan.usage import Usage
from llmspan.wire import PARSERS, Reply
from llmspan.wire.apis.json_body import BodyParser
from records import examples, patient
from wires import STREAMS, both, check_sane, load, plain_events, wire

ODD: list[Any] = [
    None, True, 0, -3, 2**70, 1.5, float("nan"), "", "odd", "\ud800", [], ["odd", None, 1, [], {}], {},
    {"type": ["odd"], "x": {}},
]  # fmt: skip


@cache
def zoo() -> dict[str, tuple[str, list[dict[str, Any]], int]]:
    """One small stream for each kind of event, and where in it that event is."""
    found: dict[str, tuple[str, list[dict[str, Any]], int]] = {}
    for name in sorted(STREAMS, key=lambda name: len(load(name).wire)):
        api = load(name).record_api
        events = [event.data for event in plain_events(load(name).wire) if event.data is not None]
        for at, data in enumerate(events):
            inner = data.get("delta") or (data.get("choices") or [{}])[0].get("delta")
            keys = "+".join(sorted(inner)) if isinstance(inner, dict) else ""
            parts = [(data.get(key) or {}).get("type") for key in ("content_block", "item", "part")]
            parts += google_kinds(data)
            kind = ".".join(filter(None, (api, data.get("type"), *parts, keys)))
            found.setdefault(kind, (api, events, at))
    return found


def google_kinds(data: dict[str, Any]) -> list[str]:
    """The type of an interaction's event, of its step and of its delta; the kinds of a candidate's parts."""
    steps = [(data.get(key) or {}).get("type") for key in ("step", "delta") if "event_type" in data]
    contents = [candidate.get("content") or {} for candidate in data.get("candidates") or []]
    kinds = ["+".join(sorted(part)) for content in contents for part in content.get("parts") or []]
    return [str(data.get("event_type", "")), *filter(None, steps), *kinds]


def paths(value: Any, path: tuple[Any, ...] = (), depth: int = 5) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in children:
        if depth:
            yield from paths(item, (*path, key), depth - 1)


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """A copy of ``value`` with ``to`` at ``path``; what the path does not lead to stays as it is."""
    if not path:
        return copy.deepcopy(to)
    if isinstance(value, dict) and path[0] in value:
        return {**value, path[0]: changed(value[path[0]], path[1:], to)}
    if isinstance(value, list) and isinstance(path[0], int) and path[0] < len(value):
        return [changed(item, path[1:], to) if at == path[0] else item for at, item in enumerate(value)]
    return value


@pytest.mark.parametrize("kind", zoo())
def test_any_value_of_an_event_may_be_odd(kind):
    """Whatever stands in place of any value of any kind of event, before and after sound ones, is passed over."""
    api, events, at = zoo()[kind]
    event, before, after = events[at], events[: min(at, 3)], events[at + 1 : at + 4]
    for path in paths(event):
        for value in ODD:
            odd = changed(event, path, value)
            check_sane(api, wire(*before, odd, event, odd, *after))


@pytest.mark.parametrize("api", PARSERS)
def test_any_value_of_a_body_may_be_odd(api):
    """The same for the bodies of calls that do not stream."""
    names = [name for name in wire_ids() if "-unary-" in name and load(name).record_api == api]
    names = [name for name in names if load(name).wire.startswith(b"{")]
    for name in sorted(names, key=lambda name: len(load(name).wire))[:40:4]:
        body = json.loads(load(name).wire)
        for path in paths(body):
            for value in ODD:
                check_sane(api, json.dumps(changed(body, path, value)).encode())


edits = st.lists(
    st.tuples(
        st.sampled_from(["change", "drop", "double", "swap", "cut", "garble"]),
        st.integers(0, 40),
        st.integers(0, 200),
        st.sampled_from(ODD),
    ),
    max_size=12,
)


@settings(patient, max_examples=examples(400))
@given(data=st.data(), edits=edits)
def test_any_mixture_is_read(data, edits):
    """Events changed, dropped, doubled, in another order, cut or garbled, and read as another API's: never an error."""
    api, events, at = zoo()[data.draw(st.sampled_from(sorted(zoo())))]
    blocks: list[Any] = list(events[max(0, at - 8) : at + 8])
    for what, first, second, value in edits:
        if not blocks:
            break
        here, there = first % len(blocks), second % len(blocks)
        if what == "change" and not isinstance(blocks[here], bytes):
            where = list(paths(blocks[here]))
            blocks[here] = changed(blocks[here], where[second % len(where)], value)
        elif what == "drop":
            del blocks[here]
        elif what == "double":
            blocks.insert(there, blocks[here])
        elif what == "swap":
            blocks[here], blocks[there] = blocks[there], blocks[here]
        else:
            text = blocks[here] if isinstance(blocks[here], bytes) else wire(blocks[here])
            half = second % (len(text) + 1)
            blocks[here] = text[:half] if what == "cut" else text[:half] + b"\xff\x00" + text[half + 1 :]
    body = b"".join(block if isinstance(block, bytes) else wire(block) for block in blocks)
    check_sane(data.draw(st.sampled_from([api, *PARSERS])), body)


@patient
@given(api=st.sampled_from(sorted(PARSERS)), body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read(api, body):
    """Bytes that are neither JSON nor events give no response, and no usage, but for the APIs that answer so."""
    reply, response = both(api, body)
    assert replace(reply.usage, raw=None) == Usage()
    assert response is None or reply.plain or isinstance(json.loads(body), dict)
    assert not reply.plain or PARSERS[api].plain or body[:1] == b"\x00"


@pytest.mark.parametrize("api", PARSERS)
def test_nesting_without_end(api):
    """JSON nested deeper than Python can go is passed over, in a body, in an event, in a tool's input."""
    deep = "[" * 100_000 + "]" * 100_000
    both(api, f'{{"id":{deep}}}'.encode())
    body = f'data: {{"id":{deep}}}\n\n'.encode()
    assert both(api, body) == (Reply(terminal=issubclass(PARSERS[api], BodyParser), chunk_count=0), None)
    both(
        api,
        wire({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": deep}}),
    )
