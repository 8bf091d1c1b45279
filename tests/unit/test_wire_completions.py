"""Streams of legacy completions."""

from __future__ import annotations

from typing import Any

from wires import both, wire


def test_text_completion():
    """Texts of two choices, interleaved, and their parallel lists of log-probabilities; null ends nothing."""

    def chunk(index: int, text: Any, finish: str | None = None, **logprobs: Any) -> dict[str, Any]:
        choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": logprobs or None}
        return {"id": "c", "object": "text_completion", "model": "m", "choices": [choice]}

    reply, response = both("completions", wire(
        chunk(1, "B", tokens=["B"], top_logprobs=[{"B": -1}]), chunk(0, "A", tokens=["A"], top_logprobs=None),
        chunk(1, "2", tokens=["2"], top_logprobs=None), chunk(0, None), chunk(0, "1", "stop"), chunk(1, "", "length"),
    ))  # fmt: skip
    assert response["choices"] == [
        {"index": 0, "text": "A1", "finish_reason": "stop", "logprobs": {"tokens": ["A"], "top_logprobs": None}},
        {"index": 1, "text": "B2", "finish_reason": "length",
         "logprobs": {"tokens": ["B", "2"], "top_logprobs": [{"B": -1}]}},
    ]  # fmt: skip
    assert (response["object"], reply.finish_reasons) == ("text_completion", ("stop", "length"))
