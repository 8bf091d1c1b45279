"""Reads our spans of all interactions with Phoenix's own reader: which content it shows, and which counts.

``uv run python tests/compat/run.py phoenix`` runs it in an environment of its own. Phoenix decodes OTLP and derives its
attributes from the conventions'; what it cannot read it leaves out, so whatever is on a span has to be counted again.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from phoenix.trace.otel import decode_otlp_span

from interaction import Interaction, interaction_ids
from llmspan.content import ContentPolicy
from llmspan.instrumentation import ContentCapture
from llmspan.messages import INPUT, INSTRUCTIONS, OUTPUT, TOOLS
from replay import replay_sync
from watching import watching

#: content attribute -> Phoenix's list of the same
LISTS = {INPUT: "input_messages", OUTPUT: "output_messages", TOOLS: "tools"}
#: count -> where Phoenix has it
COUNTS = {
    "gen_ai.usage.input_tokens": ("prompt",),
    "gen_ai.usage.output_tokens": ("completion",),
    "gen_ai.usage.cache_read.input_tokens": ("prompt_details", "cache_read"),
    "gen_ai.usage.cache_creation.input_tokens": ("prompt_details", "cache_write"),
}


def spans_of(interaction: Interaction) -> list[Any]:
    """The spans of a call, with content and names as Phoenix reads them."""
    with watching(compat="instead", capture=ContentCapture.from_mode("SPAN_ONLY", ContentPolicy())) as watch:
        with suppress(Exception):  # those that end in an error
            replay_sync(interaction)
        return watch.spans


def misread(span: Any) -> list[str]:
    """What is on a span and not, or not whole, in what Phoenix makes of it."""
    encoded = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
    llm = dict(decode_otlp_span(encoded).attributes).get("llm") or {}
    attributes = dict(span.attributes)
    missing: list[str] = []
    for name, key in LISTS.items():
        sent = len(json.loads(attributes.get(name, "[]")))
        sent += name == INPUT and INSTRUCTIONS in attributes  # becomes a first message
        if sent != len(llm.get(key) or []):
            missing.append(name)
    for name, path in COUNTS.items():
        found: Any = llm.get("token_count")
        for step in path:
            found = (found or {}).get(step)
        if found != attributes.get(name):
            missing.append(name)
    return missing


def main() -> int:
    """Print what Phoenix cannot read; the number of spans concerned."""
    spans = failed = 0
    for name in interaction_ids():
        for span in spans_of(Interaction.load(name)):
            spans += 1
            missing = misread(span)
            failed += bool(missing)
            if missing:
                print(f"{name}: Phoenix does not read {', '.join(missing)}")
    print(f"phoenix: {spans - failed} of {spans} spans of interactions read whole")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
