"""Streamed responses side by side, on asyncio; `llmspan run examples/openai_async.py` records each."""

import asyncio

from openai import AsyncOpenAI


async def answer(client: AsyncOpenAI, question: str) -> str:
    """The text of one streamed response."""
    text = ""
    async with await client.responses.create(model="gpt-5.4", input=question, stream=True) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
    return text


async def main() -> None:
    """Ask two questions at once."""
    async with AsyncOpenAI() as client:  # reads OPENAI_API_KEY and OPENAI_BASE_URL
        for text in await asyncio.gather(answer(client, "What is a trace?"), answer(client, "What is a span?")):
            print(text)


asyncio.run(main())
