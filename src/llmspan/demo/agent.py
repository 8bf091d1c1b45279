"""An agent for the demo: a planner that calls a tool, and a reviewer whose first model refuses, in spans of their own.

The SDKs and the tracer are given, not imported. Nothing here imports llmspan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from .calls import CLAUDE, GPT, anthropic_client, openai_client
from .replies import OVERLOADED

__all__ = ["run_agent"]

_CITY: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOL: Final = {"type": "function", "function": {"name": "get_weather", "parameters": _CITY}}
_QUESTION: Final = "What should I pack for Oslo?"


def run_agent(sdks: Mapping[str, Any], base_url: str, tracer: Any) -> None:
    """A run of the agent, as far as its SDKs are installed."""
    with _span(tracer, "invoke_agent", "planner"):
        if "openai" in sdks:
            _plan(sdks["openai"], base_url, tracer)
        if "anthropic" in sdks:
            with _span(tracer, "invoke_agent", "reviewer"):
                _review(sdks["anthropic"], base_url)


def _plan(sdk: Any, base_url: str, tracer: Any) -> None:
    with openai_client(sdk, base_url) as client:
        messages: list[Any] = [{"role": "user", "content": _QUESTION}]
        request = client.chat.completions.create(model=GPT, messages=messages, tools=[_TOOL]).choices[0].message
        messages.append(request.model_dump(exclude_none=True))
        for call in request.tool_calls or []:
            with _span(tracer, "execute_tool", "get_weather"):
                result = f"7 degrees in {json.loads(call.function.arguments)['city']}"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        client.chat.completions.create(model=GPT, messages=messages, tools=[_TOOL])


def _review(sdk: Any, base_url: str) -> None:
    """The first model is overloaded, so the second one has to do."""
    turns = [{"role": "user", "content": "Shorten this: take a coat, a scarf and shoes for rain."}]
    with anthropic_client(sdk, base_url) as client:
        try:
            client.messages.create(model=OVERLOADED, max_tokens=200, messages=turns)
        except sdk.APIStatusError:
            client.messages.create(model=CLAUDE, max_tokens=200, messages=turns)


def _span(tracer: Any, operation: str, name: str) -> AbstractContextManager[Any]:
    kind = "agent" if operation == "invoke_agent" else "tool"
    attributes = {"gen_ai.operation.name": operation, f"gen_ai.{kind}.name": name}
    return tracer.start_as_current_span(f"{operation} {name}", attributes=attributes)
