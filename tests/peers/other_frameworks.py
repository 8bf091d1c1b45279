"""Frameworks and clients that make no span of their own for a call, or one that does not carry its usage, as peers."""

from __future__ import annotations

import asyncio
from typing import Any

from peer import ANTHROPIC_MODEL, EMBEDDING_MODEL, OPENAI_MODEL, QUESTION, Peer, Stage

_USER = [{"role": "user", "content": QUESTION}]


# -- LlamaIndex, with OpenInference's instrumentation of it -----------------------------------------------------------


def _llama_index_on(stage: Stage) -> None:
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

    LlamaIndexInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _llama_openai(stage: Stage) -> Any:
    from llama_index.llms.openai import OpenAI

    # LlamaIndex refuses models that it does not know
    return OpenAI(model="gpt-4o", api_key="test", api_base=stage.openai_url)


def _llama_messages() -> list[Any]:
    from llama_index.core.llms import ChatMessage

    return [ChatMessage(role="user", content=QUESTION)]


def _llama_chat(stage: Stage) -> None:
    _llama_openai(stage).chat(_llama_messages())
    _llama_openai(stage).complete(QUESTION)


def _llama_chat_stream(stage: Stage) -> None:
    usage = {"stream_options": {"include_usage": True}}
    list(_llama_openai(stage).stream_chat(_llama_messages(), **usage))
    list(_llama_openai(stage).stream_complete(QUESTION, **usage))


def _llama_responses(stage: Stage) -> None:
    from llama_index.llms.openai import OpenAIResponses

    OpenAIResponses(model="gpt-4o", api_key="test", api_base=stage.openai_url).chat(_llama_messages())


def _llama_anthropic(stage: Stage) -> Any:
    from llama_index.llms.anthropic import Anthropic

    return Anthropic(model="claude-sonnet-4-5", api_key="test", base_url=stage.anthropic_url, max_tokens=64)


def _llama_embeddings(stage: Stage) -> None:
    from llama_index.embeddings.openai import OpenAIEmbedding

    OpenAIEmbedding(model=EMBEDDING_MODEL, api_key="test", api_base=stage.openai_url).get_text_embedding(QUESTION)


LLAMA_INDEX = Peer(
    "OpenInference for LlamaIndex", "older-sdks",
    {
        "chat": _llama_chat,
        "chat stream": _llama_chat_stream,
        "responses": _llama_responses,
        "messages": lambda stage: _llama_anthropic(stage).chat(_llama_messages()),
        "messages stream": lambda stage: list(_llama_anthropic(stage).stream_chat(_llama_messages())),
        "embeddings": _llama_embeddings,
    },
    # opentelemetry-instrument leaves it out: it asks for a package that no current LlamaIndex can be installed with
    ("openinference-instrumentation-llama-index", "llama-index-llms-openai", "llama-index-llms-anthropic"),
    _llama_index_on, ("openinference.",),
)  # fmt: skip


# -- Haystack ---------------------------------------------------------------------------------------------------------


def _haystack_chat(stage: Stage, *, stream: bool = False) -> None:
    from haystack import Pipeline
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.utils import Secret

    options: dict[str, Any] = {"api_key": Secret.from_token("test"), "api_base_url": stage.openai_url}
    if stream:
        options["streaming_callback"] = lambda chunk: None
        options["generation_kwargs"] = {"stream_options": {"include_usage": True}}
    pipeline = Pipeline()
    pipeline.add_component("llm", OpenAIChatGenerator(model=OPENAI_MODEL, **options))
    pipeline.run({"llm": {"messages": [ChatMessage.from_user(QUESTION)]}})


def _haystack_embeddings(stage: Stage) -> None:
    from haystack.components.embedders import OpenAITextEmbedder
    from haystack.utils import Secret

    options = {"api_key": Secret.from_token("test"), "api_base_url": stage.openai_url}
    OpenAITextEmbedder(model=EMBEDDING_MODEL, **options).run(QUESTION)


HAYSTACK = Peer(
    "Haystack", "frameworks",
    {
        "chat": _haystack_chat,
        "chat stream": lambda stage: _haystack_chat(stage, stream=True),
        "embeddings": _haystack_embeddings,
    },
    ("haystack-ai",), environ={"HAYSTACK_TELEMETRY_ENABLED": "False"},
)  # fmt: skip


# -- AutoGen: spans of agents by the global tracer provider -----------------------------------------------------------

_MODEL_INFO = {
    "family": "unknown", "vision": False, "function_calling": True, "json_output": True, "structured_output": False,
}  # fmt: skip


def _autogen(client: Any, *, stream: bool = False) -> None:
    from autogen_agentchat.agents import AssistantAgent

    agent = AssistantAgent("agent", model_client=client, model_client_stream=stream)
    asyncio.run(agent.run(task=QUESTION))


def _autogen_openai(stage: Stage, *, stream: bool = False) -> None:
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    client = {"model": OPENAI_MODEL, "api_key": "test", "base_url": stage.openai_url, "model_info": _MODEL_INFO}
    options = {"stream_options": {"include_usage": True}} if stream else {}
    _autogen(OpenAIChatCompletionClient(**client, **options), stream=stream)


def _autogen_anthropic(stage: Stage, *, stream: bool = False) -> None:
    from autogen_ext.models.anthropic import AnthropicChatCompletionClient

    client = {"model": ANTHROPIC_MODEL, "api_key": "test", "base_url": stage.anthropic_url, "model_info": _MODEL_INFO}
    _autogen(AnthropicChatCompletionClient(**client, max_tokens=64), stream=stream)


AUTOGEN = Peer(
    "AutoGen", "older-sdks",
    {
        "chat": _autogen_openai,
        "chat stream": lambda stage: _autogen_openai(stage, stream=True),
        "messages": _autogen_anthropic,
        "messages stream": lambda stage: _autogen_anthropic(stage, stream=True),
    },
    ("autogen-agentchat", "autogen-ext"), disabled=("llama_index",),
)  # fmt: skip


# -- OpenAI Agents ----------------------------------------------------------------------------------------------------


def _agents(stage: Stage, kind: str, *, stream: bool = False) -> None:
    import agents
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="test", base_url=stage.openai_url)
    model = getattr(agents, kind)(model=OPENAI_MODEL, openai_client=client)
    agent = agents.Agent(name="agent", model=model, model_settings=agents.ModelSettings(include_usage=True))

    async def read() -> None:
        async for _ in agents.Runner.run_streamed(agent, QUESTION).stream_events():
            pass

    asyncio.run(read() if stream else agents.Runner.run(agent, QUESTION))


OPENAI_AGENTS = Peer(
    "OpenAI Agents", "clients",
    {
        "chat": lambda stage: _agents(stage, "OpenAIChatCompletionsModel"),
        "chat stream": lambda stage: _agents(stage, "OpenAIChatCompletionsModel", stream=True),
        "responses": lambda stage: _agents(stage, "OpenAIResponsesModel"),
        "responses stream": lambda stage: _agents(stage, "OpenAIResponsesModel", stream=True),
    },
    ("openai-agents",), environ={"OPENAI_AGENTS_DISABLE_TRACING": "1"},  # it sends its own traces to OpenAI
)  # fmt: skip


# -- smolagents, agno, Instructor -------------------------------------------------------------------------------------


def _smolagents(stage: Stage) -> Any:
    from smolagents import OpenAIModel

    return OpenAIModel(model_id=OPENAI_MODEL, api_base=stage.openai_url, api_key="test")


SMOLAGENTS = Peer(
    "smolagents", "clients",
    {
        "chat": lambda stage: _smolagents(stage).generate(_USER),
        "chat stream": lambda stage: list(_smolagents(stage).generate_stream(_USER)),
    },
    ("smolagents",),
)  # fmt: skip


def _agno(model: Any, *, stream: bool = False) -> None:
    from agno.agent import Agent

    run = Agent(model=model, telemetry=False).run(QUESTION, stream=stream)
    if stream:
        list(run)


def _agno_chat(stage: Stage, *, stream: bool = False) -> None:
    from agno.models.openai import OpenAIChat

    _agno(OpenAIChat(id=OPENAI_MODEL, api_key="test", base_url=stage.openai_url), stream=stream)


def _agno_responses(stage: Stage) -> None:
    from agno.models.openai import OpenAIResponses

    _agno(OpenAIResponses(id=OPENAI_MODEL, api_key="test", base_url=stage.openai_url))


def _agno_messages(stage: Stage, *, stream: bool = False) -> None:
    from agno.models.anthropic import Claude

    client = {"base_url": stage.anthropic_url}
    _agno(Claude(id=ANTHROPIC_MODEL, api_key="test", client_params=client, max_tokens=64), stream=stream)


AGNO = Peer(
    "agno", "clients",
    {
        "chat": _agno_chat,
        "chat stream": lambda stage: _agno_chat(stage, stream=True),
        "responses": _agno_responses,
        "messages": _agno_messages,
        "messages manager": lambda stage: _agno_messages(stage, stream=True),
    },
    ("agno",), environ={"AGNO_TELEMETRY": "false"},
)  # fmt: skip


def _instructor(stage: Stage, provider: str) -> None:
    import instructor
    import peer_calls
    import pydantic

    city = pydantic.create_model("City", city=(str, ...))
    ask: dict[str, Any] = {"messages": _USER, "response_model": city}
    if provider == "openai":
        client = instructor.from_openai(peer_calls.openai_client(stage))
        client.chat.completions.create(model=OPENAI_MODEL, **ask)
    else:
        client = instructor.from_anthropic(peer_calls.anthropic_client(stage))
        client.messages.create(model=ANTHROPIC_MODEL, max_tokens=64, **ask)


INSTRUCTOR = Peer(
    "Instructor", "clients",
    {"chat": lambda stage: _instructor(stage, "openai"), "messages": lambda stage: _instructor(stage, "anthropic")},
    ("instructor",),
)  # fmt: skip


# -- LiteLLM and DSPy -------------------------------------------------------------------------------------------------


def _litellm(stage: Stage, *, stream: bool = False) -> None:
    import litellm

    ask = {"model": f"openai/{OPENAI_MODEL}", "api_base": stage.openai_url, "api_key": "test", "messages": _USER}
    if stream:
        list(litellm.completion(**ask, stream=True, stream_options={"include_usage": True}))
    else:
        litellm.completion(**ask)


def _litellm_embeddings(stage: Stage) -> None:
    import litellm

    litellm.embedding(f"openai/{EMBEDDING_MODEL}", [QUESTION], api_base=stage.openai_url, api_key="test")


_LOCAL_PRICES = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
LITELLM = Peer(
    "LiteLLM", "clients",
    {
        "chat": _litellm,
        "chat stream": lambda stage: _litellm(stage, stream=True),
        "embeddings": _litellm_embeddings,
    },
    ("litellm",), environ=_LOCAL_PRICES, is_large=True,
)  # fmt: skip


# DSPy's own engine, and LiteLLM's for responses, make their HTTP calls without the SDK, and are no matter of this table
def _dspy(stage: Stage) -> None:
    import dspy

    dspy.LM(f"openai/{OPENAI_MODEL}", api_base=stage.openai_url, api_key="test", cache=False, engine="litellm")(
        QUESTION
    )


DSPY = Peer(
    "DSPy", "clients",
    {"chat": _dspy},
    ("dspy", "litellm"), environ=_LOCAL_PRICES, is_large=True,
)  # fmt: skip


# -- CrewAI -----------------------------------------------------------------------------------------------------------


def _crewai(stage: Stage, model: str, **options: Any) -> None:
    from crewai import LLM, Agent

    llm = LLM(model=model, api_key="test", **options)
    Agent(role="writer", goal="answer", backstory="none", llm=llm).kickoff(QUESTION)


CREWAI = Peer(
    "CrewAI", "crewai",
    {
        "chat": lambda stage: _crewai(stage, f"openai/{OPENAI_MODEL}", base_url=stage.openai_url),
        "messages": lambda stage: _crewai(
            stage, f"anthropic/{ANTHROPIC_MODEL}", base_url=stage.anthropic_url, max_tokens=64
        ),
    },
    ("crewai",), is_large=True,
    environ={
        "CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_DISABLE_TRACKING": "true", "CREWAI_TRACING_ENABLED": "false",
    },
)  # fmt: skip

OTHER_FRAMEWORKS = (
    LLAMA_INDEX, HAYSTACK, AUTOGEN, OPENAI_AGENTS, SMOLAGENTS, AGNO, INSTRUCTOR, LITELLM, DSPY, CREWAI,
)  # fmt: skip
