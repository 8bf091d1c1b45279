"""Other instrumentations of the SDKs, and of LangChain, as peers."""

from __future__ import annotations

import os
from pathlib import Path

import peer_calls
from peer import ANTHROPIC_MODEL, EMBEDDING_MODEL, OPENAI_MODEL, QUESTION, Peer, Stage


def _openinference(stage: Stage) -> None:
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=stage.tracer_provider)
    AnthropicInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _openllmetry(stage: Stage) -> None:
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=stage.tracer_provider)
    AnthropicInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _official(stage: Stage) -> None:
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=stage.tracer_provider)
    AnthropicInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _google_official(stage: Stage) -> None:
    from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor

    GoogleGenAiSdkInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _google_openinference(stage: Stage) -> None:
    from openinference.instrumentation.google_genai import GoogleGenAIInstrumentor

    GoogleGenAIInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _google_openllmetry(stage: Stage) -> None:
    from opentelemetry.instrumentation.google_generativeai import GoogleGenerativeAiInstrumentor

    GoogleGenerativeAiInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _openlit(stage: Stage) -> None:
    import openlit

    prices = Path("prices.json").resolve()  # it would fetch them from the network
    prices.write_text("{}")
    openlit.init(disable_metrics=True, disable_events=True, pricing_json=str(prices))


def _logfire(stage: Stage) -> None:
    import logfire
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    processors = [SimpleSpanProcessor(stage.exporter)]
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors, metrics=False)
    logfire.instrument_openai()
    logfire.instrument_anthropic()


def _langfuse(stage: Stage) -> None:
    os.environ["LANGFUSE_BASE_URL"] = stage.anthropic_url  # what it exports is answered with 404 there
    import langfuse
    import langfuse.openai

    langfuse.Langfuse(public_key="pk-lf-test", secret_key="sk-lf-test", tracer_provider=stage.tracer_provider)
    assert langfuse.openai


def _langchain_openinference(stage: Stage) -> None:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _langchain_openllmetry(stage: Stage) -> None:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument(tracer_provider=stage.tracer_provider)


def _chat_openai(stage: Stage, **options: object):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=OPENAI_MODEL, api_key="test", base_url=stage.openai_url, **options)


def _chat_anthropic(stage: Stage):
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(model=ANTHROPIC_MODEL, api_key="test", base_url=stage.anthropic_url, max_tokens=64)


def _langchain_embeddings(stage: Stage) -> None:
    from langchain_openai import OpenAIEmbeddings

    options = {"api_key": "test", "base_url": stage.openai_url, "check_embedding_ctx_length": False}
    OpenAIEmbeddings(model=EMBEDDING_MODEL, **options).embed_query(QUESTION)


LANGCHAIN_CALLS = {
    "chat": lambda stage: _chat_openai(stage).invoke(QUESTION),
    "chat stream": lambda stage: list(_chat_openai(stage, stream_usage=True).stream(QUESTION)),
    "responses": lambda stage: _chat_openai(stage, use_responses_api=True).invoke(QUESTION),
    "responses stream": lambda stage: list(_chat_openai(stage, use_responses_api=True).stream(QUESTION)),
    "messages": lambda stage: _chat_anthropic(stage).invoke(QUESTION),
    "messages stream": lambda stage: list(_chat_anthropic(stage).stream(QUESTION)),
    "embeddings": _langchain_embeddings,
}
_SDKS = ("openai", "anthropic")

INSTRUMENTATIONS = (
    Peer("no other instrumentation", "wrappers", peer_calls.ALL),
    Peer(
        "OpenInference", "openinference", peer_calls.ALL,
        ("openinference-instrumentation-openai", "openinference-instrumentation-anthropic"),
        _openinference, ("openinference.",), has_entry_point=True, disabled=("langchain",),
    ),
    Peer(
        "OpenInference for LangChain", "openinference", LANGCHAIN_CALLS,
        ("openinference-instrumentation-langchain", "langchain-openai", "langchain-anthropic"),
        _langchain_openinference, ("openinference.",), ("embeddings",), has_entry_point=True, disabled=_SDKS,
    ),
    Peer(
        "OpenLLMetry", "openllmetry", peer_calls.ALL,
        ("opentelemetry-instrumentation-openai", "opentelemetry-instrumentation-anthropic"),
        _openllmetry, ("opentelemetry.instrumentation.",), has_entry_point=True, disabled=("langchain",),
    ),
    Peer(
        "OpenLLMetry for LangChain", "openllmetry", LANGCHAIN_CALLS,
        ("opentelemetry-instrumentation-langchain", "langchain-openai", "langchain-anthropic"),
        _langchain_openllmetry, ("opentelemetry.instrumentation.",), ("embeddings",), has_entry_point=True,
        disabled=_SDKS,
    ),
    Peer(
        "official GenAI instrumentations", "official", peer_calls.ALL,
        ("opentelemetry-instrumentation-genai-openai", "opentelemetry-instrumentation-genai-anthropic"),
        _official, ("opentelemetry.instrumentation.genai.",), has_entry_point=True,
    ),
    Peer(
        "Logfire", "wrappers", peer_calls.ALL, ("logfire",), _logfire, ("logfire.",), owns_provider=True,
        logs_usage=True,
    ),
    Peer("Langfuse's openai wrapper", "wrappers", peer_calls.OPENAI, ("langfuse",), _langfuse, ("langfuse",)),
    Peer(
        "OpenInference for google-genai", "google-openinference", peer_calls.GOOGLE,
        ("openinference-instrumentation-google-genai", "google-genai"),
        _google_openinference, ("openinference.",), has_entry_point=True,
    ),
    Peer(
        "OpenLLMetry for google-genai", "google-openllmetry", peer_calls.GOOGLE,
        ("opentelemetry-instrumentation-google-generativeai", "google-genai"),
        _google_openllmetry, ("opentelemetry.instrumentation.",), has_entry_point=True,
    ),
    Peer(
        "official instrumentation of google-genai", "google-official", peer_calls.GOOGLE,
        ("opentelemetry-instrumentation-google-genai", "google-genai"),
        _google_official, ("opentelemetry.",), has_entry_point=True,
    ),
    Peer("OpenLIT", "openlit", peer_calls.ALL, ("openlit",), _openlit, ("openlit",)),
)  # fmt: skip
