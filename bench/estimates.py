"""How far the built-in estimates of tokens are from what providers reported, over the recordings.

``uv run python bench/estimates.py`` prints a table of the relative errors: the estimate over the reported number, at
the 10th, 50th and 90th percentile, for prompts and replies of text.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import quantiles
from typing import Any

from llmspan.estimate import ESTIMATED_INPUT, ESTIMATED_OUTPUT, Estimator
from llmspan.wire import reassemble

RECORDINGS = Path(os.environ.get("LLMSPAN_TEST_RECORDINGS", Path(__file__).parents[2] / "shared" / "recordings"))
APIS = {"chat.completions": "chat_completions", "beta.messages": "messages"}
#: signs of input that is not text, or is not in the request
ELSEWHERE = ("image", "file", "audio", "document", "previous_response_id", "conversation", "web_", "mcp", "computer",
             "code_", "container", "tool_search", "shell", "bash", "advisor", "memory", "text_editor")  # fmt: skip
#: below these a message's frame is most of the number
LEAST = 20


def pairs(recording: dict[str, Any]) -> list[tuple[str, float]]:
    """(what, estimate / reported) of one recording."""
    expect, request = recording["expect"], recording["request"]["body"]
    api = APIS.get(recording["api"], recording["api"])
    if recording["response"]["status"] >= 400 or api == "embeddings":
        return []
    _, response = reassemble(api, recording["response"]["body"].encode())
    texts = json.dumps(request) if request else None, json.dumps(response) if response else None
    found = Estimator().estimate(*texts, None)
    tools = "with tools" if request and request.get("tools") else "text"
    reported = {
        ESTIMATED_INPUT: expect["input_tokens_total"] if _is_text(texts[0]) else None,
        # thinking that is not shown, and what the provider's own tools read and wrote, cannot be counted
        ESTIMATED_OUTPUT: expect["output_tokens"] if not expect["reasoning_tokens"] else None,
    }
    return [
        (f"`{name}`, {recording['provider']}, {tools}", found[name] / number)
        for name, number in reported.items()
        if name in found and (number or 0) >= LEAST
    ]


def _is_text(request: str | None) -> bool:
    """Whether all that the model read was sent as text: no media, and nothing that is kept by the provider."""
    return request is not None and not any(f'"{word}' in request for word in ELSEWHERE)


def main() -> None:
    """Print the table."""
    ratios: dict[str, list[float]] = {}
    for path in sorted(RECORDINGS.glob("*-*-*.json")):
        recording = json.loads(path.read_text())
        for name, ratio in pairs(recording):
            ratios.setdefault(name, []).append(ratio)
    print("| estimate / reported | calls | 10 % | median | 90 % |\n| --- | --- | --- | --- | --- |")
    for name, values in sorted(ratios.items()):
        cuts = quantiles(values, n=10)
        print(f"| {name} | {len(values)} | {cuts[0]:.2f} | {cuts[4]:.2f} | {cuts[8]:.2f} |")


if __name__ == "__main__":
    main()
