"""Our own interactions leave nothing out: each API, and each count that a usage object may have, is in one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from interaction import CALLS, Interaction, own_ids
from llmspan.usage import KNOWN_COUNTS
from llmspan.wire import PARSERS


def counts(value: Any, prefix: str = "") -> Iterator[str]:
    """The paths of all numbers in an object, by the rules of :data:`KNOWN_COUNTS`."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from counts(inner, f"{prefix}{key}.")
        elif isinstance(inner, list):
            label = "type" if key == "grounding_tool_count" else "modality"
            for item in inner:
                yield from counts(item, f"{prefix}{key}[{item.get(label, '')}].") if isinstance(item, dict) else ()
        elif isinstance(inner, int | float):
            yield prefix + key


def objects_of(interaction: Interaction) -> Iterator[dict[str, Any]]:
    """The usage of an interaction, and of a body the usage objects that stand beside it."""
    yield interaction.expect["usage_raw"] or {}
    if not interaction.expect["is_sse"] and interaction.wire.startswith(b"{"):
        body = json.loads(interaction.wire)
        yield {key: body[key] for key in ("tool_usage", "svg_usage", "output") if key in body}


def test_every_api_is_there():
    """Each parser has an interaction, and so has each API that there is a call for."""
    prefixes = {name.partition("-")[0] for name in own_ids()}
    assert prefixes == set(CALLS)
    assert {prefix.removeprefix("beta_") for prefix in prefixes} == set(PARSERS)


def test_every_known_count_is_there():
    """A count that is added to the table needs an interaction that reports it."""
    reported = {path for name in own_ids() for usage in objects_of(Interaction.load(name)) for path in counts(usage)}
    assert reported >= set(KNOWN_COUNTS)


def test_each_says_what_it_is_for():
    """Each names its rule, in a sentence."""
    assert [name for name in own_ids() if not Interaction.load(name).about.endswith(".")] == []
