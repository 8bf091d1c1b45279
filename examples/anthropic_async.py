"""A streamed message on asyncio, left when it has said enough; `llmspan run examples/anthropic_async.py` records it."""

import asyncio

from anthropic import AsyncAnthropic

question = [{"role": "user", "content": "What is a trace?"}]


async def main() -> None:
    """Print the first words of an answer."""
    async with (
        AsyncAnthropic() as client,  # reads ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL
        client.messages.stream(model="claude-opus-5", max_tokens=1024, messages=question) as stream,
    ):
        said = ""
        async for text in stream.text_stream:
            said += text
            if len(said) > 20:
                break
    print(said)


asyncio.run(main())
