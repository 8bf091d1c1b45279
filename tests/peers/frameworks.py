"""Frameworks with instrumentation of their own, switched on, as peers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from peer import ANTHROPIC_MODEL, EMBEDDING_MODEL, OPENAI_MODEL, QUESTION, Peer, Stage

_OPENAI = {"api_key": "test"}


def _in_loop(call: Callable[[Stage], Awaitable[Any]]) -> Callable[[Stage], None]:
    async def run(stage: Stage) -> None:
        await call(stage)

    return lambda stage: asyncio.run(run(stage))


# -- Strands Agents: spans by the global tracer provider -------------------------------------------------------------


def _strands(model: Any) -> None:
    from strands import Agent

    Agent(model=model, callback_handler=None)(QUESTION)


def _strands_chat(stage: Stage) -> None:
    from strands.models.openai import OpenAIModel

    _strands(OpenAIModel(client_args={**_OPENAI, "base_url": stage.openai_url}, model_id=OPENAI_MODEL))


def _strands_responses(stage: Stage) -> None:
    from strands.models.openai_responses import OpenAIResponsesModel

    _strands(OpenAIResponsesModel(client_args={**_OPENAI, "base_url": stage.openai_url}, model_id=OPENAI_MODEL))


def _strands_messages(stage: Stage) -> None:
    from strands.models.anthropic import AnthropicModel

    arguments = {**_OPENAI, "base_url": stage.anthropic_url}
    _strands(AnthropicModel(client_args=arguments, model_id=ANTHROPIC_MODEL, max_tokens=64))


STRANDS = Peer(
    "Strands Agents", "older-sdks",
    {"chat stream": _strands_chat, "responses stream": _strands_responses, "messages manager": _strands_messages},
    ("strands-agents",), scopes=("strands.",), disabled=("llama_index",),
)  # fmt: skip


# -- Agent Framework: instrumented by default -------------------------------------------------------------------------


async def _agent_framework(client: Any, *, stream: bool = False) -> None:
    from agent_framework import Agent

    run = Agent(client=client, name="agent").run(QUESTION, stream=stream)
    if stream:
        async for _ in run:
            pass
    else:
        await run


def _agent_framework_chat(stage: Stage, *, stream: bool = False) -> Awaitable[None]:
    from agent_framework.openai import OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(model=OPENAI_MODEL, **_OPENAI, base_url=stage.openai_url)
    return _agent_framework(client, stream=stream)


def _agent_framework_responses(stage: Stage, *, stream: bool = False) -> Awaitable[None]:
    from agent_framework.openai import OpenAIChatClient

    client = OpenAIChatClient(model=OPENAI_MODEL, **_OPENAI, base_url=stage.openai_url)
    return _agent_framework(client, stream=stream)


def _agent_framework_messages(stage: Stage, *, stream: bool = False) -> Awaitable[None]:
    from agent_framework.anthropic import AnthropicClient
    from anthropic import AsyncAnthropic

    sdk = AsyncAnthropic(api_key="test", base_url=stage.anthropic_url)
    return _agent_framework(AnthropicClient(model=ANTHROPIC_MODEL, anthropic_client=sdk), stream=stream)


def _agent_framework_embeddings(stage: Stage) -> Awaitable[Any]:
    from agent_framework.openai import OpenAIEmbeddingClient

    client = OpenAIEmbeddingClient(model=EMBEDDING_MODEL, **_OPENAI, base_url=stage.openai_url)
    return client.get_embeddings([QUESTION])


AGENT_FRAMEWORK = Peer(
    "Agent Framework", "agent-framework",
    {
        "chat": _in_loop(_agent_framework_chat),
        "chat stream": _in_loop(lambda stage: _agent_framework_chat(stage, stream=True)),
        "responses": _in_loop(_agent_framework_responses),
        "responses stream": _in_loop(lambda stage: _agent_framework_responses(stage, stream=True)),
        "messages": _in_loop(_agent_framework_messages),
        "messages stream": _in_loop(lambda stage: _agent_framework_messages(stage, stream=True)),
        "embeddings": _in_loop(_agent_framework_embeddings),
    },
    ("agent-framework-core", "agent-framework-openai", "agent-framework-anthropic"), scopes=("agent_framework",),
)  # fmt: skip


# -- Pydantic AI ------------------------------------------------------------------------------------------------------


def _pydantic_ai_on(stage: Stage) -> None:
    from pydantic_ai import Agent, Embedder
    from pydantic_ai.models.instrumented import InstrumentationSettings

    settings = InstrumentationSettings(tracer_provider=stage.tracer_provider)
    Agent.instrument_all(settings)
    Embedder.instrument_all(settings)


def _pydantic_openai(stage: Stage) -> Any:
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIProvider(base_url=stage.openai_url, api_key="test")


async def _pydantic_agent(model: Any, *, stream: bool = False) -> None:
    from pydantic_ai import Agent

    agent = Agent(model)
    if not stream:
        await agent.run(QUESTION)
        return
    async with agent.run_stream(QUESTION) as result:
        async for _ in result.stream_text():
            pass


def _pydantic_chat(stage: Stage, *, stream: bool = False) -> Awaitable[None]:
    from pydantic_ai.models.openai import OpenAIChatModel

    return _pydantic_agent(OpenAIChatModel(OPENAI_MODEL, provider=_pydantic_openai(stage)), stream=stream)


def _pydantic_responses(stage: Stage, *, stream: bool = False) -> Awaitable[None]:
    from pydantic_ai.models.openai import OpenAIResponsesModel

    return _pydantic_agent(OpenAIResponsesModel(OPENAI_MODEL, provider=_pydantic_openai(stage)), stream=stream)


def _pydantic_messages(stage: Stage, *, stream: bool = False) -> Awaitable[None]:
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    provider = AnthropicProvider(base_url=stage.anthropic_url, api_key="test")
    return _pydantic_agent(AnthropicModel(ANTHROPIC_MODEL, provider=provider), stream=stream)


def _pydantic_embeddings(stage: Stage) -> Awaitable[Any]:
    from pydantic_ai import Embedder
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel

    return Embedder(OpenAIEmbeddingModel(EMBEDDING_MODEL, provider=_pydantic_openai(stage))).embed_query(QUESTION)


PYDANTIC_AI = Peer(
    "Pydantic AI", "frameworks",
    {
        "chat": _in_loop(_pydantic_chat),
        "chat stream": _in_loop(lambda stage: _pydantic_chat(stage, stream=True)),
        "responses": _in_loop(_pydantic_responses),
        "responses stream": _in_loop(lambda stage: _pydantic_responses(stage, stream=True)),
        "messages": _in_loop(_pydantic_messages),
        "messages stream": _in_loop(lambda stage: _pydantic_messages(stage, stream=True)),
        "embeddings": _in_loop(_pydantic_embeddings),
    },
    ("pydantic-ai-slim",), _pydantic_ai_on, ("pydantic-ai",),
)  # fmt: skip


# -- Semantic Kernel: spans by the global tracer provider, switched on by a variable ----------------------------------


async def _kernel_chat(service: Any, settings: Any, *, stream: bool = False) -> None:
    from semantic_kernel.contents import ChatHistory

    history = ChatHistory()
    history.add_user_message(QUESTION)
    if not stream:
        await service.get_chat_message_content(history, settings)
        return
    async for _ in service.get_streaming_chat_message_content(history, settings):
        pass


def _kernel_openai(stage: Stage, *, stream: bool = False) -> Awaitable[None]:
    from openai import AsyncOpenAI
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings

    client = AsyncOpenAI(**_OPENAI, base_url=stage.openai_url)
    service = OpenAIChatCompletion(ai_model_id=OPENAI_MODEL, async_client=client)
    return _kernel_chat(service, OpenAIChatPromptExecutionSettings(), stream=stream)


def _kernel_anthropic(stage: Stage, *, stream: bool = False) -> Awaitable[None]:
    from anthropic import AsyncAnthropic
    from semantic_kernel.connectors.ai.anthropic import AnthropicChatCompletion, AnthropicChatPromptExecutionSettings

    client = AsyncAnthropic(api_key="test", base_url=stage.anthropic_url)
    service = AnthropicChatCompletion(ai_model_id=ANTHROPIC_MODEL, api_key="test", async_client=client)
    return _kernel_chat(service, AnthropicChatPromptExecutionSettings(max_tokens=64), stream=stream)


def _kernel_embeddings(stage: Stage) -> Awaitable[Any]:
    from openai import AsyncOpenAI
    from semantic_kernel.connectors.ai.open_ai import OpenAITextEmbedding

    client = AsyncOpenAI(**_OPENAI, base_url=stage.openai_url)
    return OpenAITextEmbedding(ai_model_id=EMBEDDING_MODEL, async_client=client).generate_embeddings([QUESTION])


SEMANTIC_KERNEL = Peer(
    "Semantic Kernel", "semantic-kernel",
    {
        "chat": _in_loop(_kernel_openai),
        "chat stream": _in_loop(lambda stage: _kernel_openai(stage, stream=True)),
        "messages": _in_loop(_kernel_anthropic),
        "messages stream": _in_loop(lambda stage: _kernel_anthropic(stage, stream=True)),
        "embeddings": _in_loop(_kernel_embeddings),
    },
    ("semantic-kernel",), scopes=("semantic_kernel.",), without_spans=("embeddings",),
    environ={"SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS": "true"},
)  # fmt: skip

FRAMEWORKS = (STRANDS, AGENT_FRAMEWORK, PYDANTIC_AI, SEMANTIC_KERNEL)
