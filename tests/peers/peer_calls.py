"""The calls of a program that uses the SDKs directly, each made by the synchronous and the asynchronous client."""

from __future__ import annotations

import asyncio
from typing import Any

from peer import ANTHROPIC_MODEL, EMBEDDING_MODEL, GEMINI_MODEL, OPENAI_MODEL, QUESTION, Stage

CHAT = {"model": OPENAI_MODEL, "messages": [{"role": "user", "content": QUESTION}]}
CHAT_STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
RESPONSES = {"model": OPENAI_MODEL, "input": QUESTION}
MESSAGES = {"model": ANTHROPIC_MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}
EMBEDDINGS = {"model": EMBEDDING_MODEL, "input": QUESTION}


CONTENTS = {"model": GEMINI_MODEL, "contents": QUESTION}


def openai_client(stage: Stage) -> Any:
    import openai

    return openai.OpenAI(api_key="test", base_url=stage.openai_url)


def anthropic_client(stage: Stage) -> Any:
    import anthropic

    return anthropic.Anthropic(api_key="test", base_url=stage.anthropic_url)


def google_client(stage: Stage) -> Any:
    from google import genai

    options = {"base_url": stage.google_url, "client_args": {"trust_env": False}}
    return genai.Client(api_key="test", http_options=options)


def chat(stage: Stage) -> None:
    with openai_client(stage) as client:
        client.chat.completions.create(**CHAT)
    _run_openai(stage, "chat.completions.create", CHAT)


def chat_stream(stage: Stage) -> None:
    with openai_client(stage) as client:
        _read(client.chat.completions.create(**CHAT_STREAM))
    _run_openai(stage, "chat.completions.create", CHAT_STREAM)


def responses(stage: Stage) -> None:
    with openai_client(stage) as client:
        client.responses.create(**RESPONSES)
    _run_openai(stage, "responses.create", RESPONSES)


def responses_stream(stage: Stage) -> None:
    with openai_client(stage) as client:
        _read(client.responses.create(**RESPONSES, stream=True))
    _run_openai(stage, "responses.create", {**RESPONSES, "stream": True})


def embeddings(stage: Stage) -> None:
    with openai_client(stage) as client:
        client.embeddings.create(**EMBEDDINGS)
    _run_openai(stage, "embeddings.create", EMBEDDINGS)


def messages(stage: Stage) -> None:
    with anthropic_client(stage) as client:
        client.messages.create(**MESSAGES)
    _run_anthropic(stage, MESSAGES)


def messages_stream(stage: Stage) -> None:
    with anthropic_client(stage) as client:
        _read(client.messages.create(**MESSAGES, stream=True))
    _run_anthropic(stage, {**MESSAGES, "stream": True})


def messages_manager(stage: Stage) -> None:
    with anthropic_client(stage) as client, client.messages.stream(**MESSAGES) as stream:
        stream.get_final_message()
    asyncio.run(_messages_manager(stage))


def contents(stage: Stage) -> None:
    client = google_client(stage)  # kept: one that is freed closes its connections
    client.models.generate_content(**CONTENTS)
    asyncio.run(_contents(stage, "generate_content"))


def contents_stream(stage: Stage) -> None:
    client = google_client(stage)
    _read(client.models.generate_content_stream(**CONTENTS))
    asyncio.run(_contents(stage, "generate_content_stream"))


OPENAI = {
    "chat": chat,
    "chat stream": chat_stream,
    "responses": responses,
    "responses stream": responses_stream,
    "embeddings": embeddings,
}
ANTHROPIC = {"messages": messages, "messages stream": messages_stream, "messages manager": messages_manager}
ALL = {**OPENAI, **ANTHROPIC}
GOOGLE = {"contents": contents, "contents stream": contents_stream}


def _read(stream: Any) -> None:
    for _ in stream:
        pass


def _run_openai(stage: Stage, path: str, arguments: dict[str, Any]) -> None:
    import openai

    async def call() -> None:
        async with openai.AsyncOpenAI(api_key="test", base_url=stage.openai_url) as client:
            await _call(client, path, arguments)

    asyncio.run(call())


def _run_anthropic(stage: Stage, arguments: dict[str, Any]) -> None:
    import anthropic

    async def call() -> None:
        async with anthropic.AsyncAnthropic(api_key="test", base_url=stage.anthropic_url) as client:
            await _call(client, "messages.create", arguments)

    asyncio.run(call())


async def _messages_manager(stage: Stage) -> None:
    import anthropic

    async with (
        anthropic.AsyncAnthropic(api_key="test", base_url=stage.anthropic_url) as client,
        client.messages.stream(**MESSAGES) as stream,
    ):
        await stream.get_final_message()


async def _call(client: Any, path: str, arguments: dict[str, Any]) -> None:
    method = client
    for name in path.split("."):
        method = getattr(method, name)
    result = await method(**arguments)
    if arguments.get("stream"):
        async for _ in result:
            pass


async def _contents(stage: Stage, name: str) -> None:
    client = google_client(stage)
    result = await getattr(client.aio.models, name)(**CONTENTS)
    if name.endswith("_stream"):
        async for _ in result:
            pass
    await client.aio.aclose()
