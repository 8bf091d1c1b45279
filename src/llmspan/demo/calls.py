"""The calls that ``llmspan demo`` makes, by the real SDKs: what programs do, and what goes wrong with them.

The SDKs are given, not imported: one that is not installed does not affect the other. Nothing here imports llmspan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from .replies import OVERLOADED

__all__ = ["CALLS", "CLAUDE", "GEMINI", "GPT", "TRIAL_CALLS", "Call", "anthropic_client", "openai_client"]

#: takes an SDK's module and the base URL of the demo server
Call = Callable[[Any, str], None]

GPT: Final = "gpt-5.4"
CLAUDE: Final = "claude-opus-5"
GEMINI: Final = "gemini-2.5-flash"
_SYSTEM: Final = "You answer in one sentence."
_QUESTION: Final = "What is a trace?"
_CITY: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def chat_stream(sdk: Any, base_url: str) -> None:
    """A streamed chat, read to its end."""
    with openai_client(sdk, base_url) as client, client.chat.completions.create(**_chat(stream=True)) as stream:
        for _ in stream:
            pass


def chat(sdk: Any, base_url: str) -> None:
    """A chat that is not streamed."""
    with openai_client(sdk, base_url) as client:
        client.chat.completions.create(**_chat())


def message(sdk: Any, base_url: str) -> None:
    """A message that is not streamed."""
    with anthropic_client(sdk, base_url) as client:
        client.messages.create(**_message())


def generation(sdk: Any, base_url: str) -> None:
    """A generation that is not streamed."""
    options = {"base_url": base_url, "client_args": {"trust_env": False}}
    client = sdk.Client(api_key="demo", vertexai=False, http_options=options)
    client.models.generate_content(model=GEMINI, contents=_QUESTION)


def responses_stream(sdk: Any, base_url: str) -> None:
    """A streamed response with a reasoning summary."""
    ask = {"model": GPT, "instructions": _SYSTEM, "input": _QUESTION, "reasoning": {"summary": "auto"}}
    with openai_client(sdk, base_url) as client, client.responses.create(**ask, stream=True) as stream:
        for _ in stream:
            pass


def tool_call(sdk: Any, base_url: str) -> None:
    """A chat that wants a tool."""
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": _CITY}}
    with openai_client(sdk, base_url) as client:
        client.chat.completions.create(**_chat("What is the weather in Oslo?"), tools=[tool])


def closed_early(sdk: Any, base_url: str) -> None:
    """A stream that the program stops reading after a few words."""
    with openai_client(sdk, base_url) as client, client.chat.completions.create(**_chat(stream=True)) as stream:
        for _ in range(5):
            next(stream)


def thinking_stream(sdk: Any, base_url: str) -> None:
    """A streamed message with thinking and a prompt cache."""
    thinking = {"type": "adaptive"}
    with anthropic_client(sdk, base_url) as client, client.messages.stream(**_message(), thinking=thinking) as stream:
        stream.get_final_message()


def async_message(sdk: Any, base_url: str) -> None:
    """A streamed message in asyncio."""
    asyncio.run(_async_message(sdk, base_url))


def refused(sdk: Any, base_url: str) -> None:
    """A call that is refused, with all of the SDK's retries."""
    with anthropic_client(sdk, base_url) as client:
        try:
            client.messages.create(**_message(OVERLOADED))
        except sdk.APIStatusError:
            return


#: by SDK, then by the step that they are recorded under
CALLS: Final[dict[str, dict[str, Call]]] = {
    "openai": {
        "demo-chat": chat_stream,
        "demo-response": responses_stream,
        "demo-tool": tool_call,
        "demo-closed-early": closed_early,
    },
    "anthropic": {
        "demo-async": async_message,
        "demo-refused": refused,
        "demo-thinking": thinking_stream,
    },
}


#: one plain call by each SDK, for ``llmspan doctor``
TRIAL_CALLS: Final[dict[str, Call]] = {"openai": chat, "anthropic": message, "google-genai": generation}


async def _async_message(sdk: Any, base_url: str) -> None:
    http = sdk.DefaultAsyncHttpxClient(trust_env=False)
    async with (
        sdk.AsyncAnthropic(api_key="demo", base_url=base_url, http_client=http) as client,
        await client.messages.create(**_message(), stream=True) as stream,
    ):
        async for _ in stream:
            pass


def openai_client(sdk: Any, base_url: str) -> Any:
    """A client of the demo server, by the SDK ``openai``."""
    # A proxy of the environment would be asked for 127.0.0.1, and would not find the demo there.
    http = sdk.DefaultHttpxClient(trust_env=False)
    return sdk.OpenAI(api_key="demo", base_url=f"{base_url}/v1", http_client=http)


def anthropic_client(sdk: Any, base_url: str) -> Any:
    """A client of the demo server, by the SDK ``anthropic``."""
    return sdk.Anthropic(api_key="demo", base_url=base_url, http_client=sdk.DefaultHttpxClient(trust_env=False))


def _chat(question: str = _QUESTION, *, stream: bool = False) -> dict[str, Any]:
    turns = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]
    ask: dict[str, Any] = {"model": GPT, "messages": turns}
    return {**ask, "stream": True, "stream_options": {"include_usage": True}} if stream else ask


def _message(model: str = CLAUDE) -> dict[str, Any]:
    system = [{"type": "text", "text": _SYSTEM, "cache_control": {"type": "ephemeral"}}]
    turns = [{"role": "user", "content": _QUESTION}]
    return {"model": model, "max_tokens": 2048, "system": system, "messages": turns}
