"""What a peer is: another instrumentation, or a framework, with the calls that a program makes through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SURFACES = (
    "chat", "chat stream", "responses", "responses stream", "messages", "messages stream", "messages manager",
    "embeddings", "contents", "contents stream",
)  # fmt: skip
#: ``opentelemetry-instrument`` loads entry points in the order of the folders that packages are found in
ZERO_CODE, ZERO_CODE_PEER_FIRST = ("zero-code, llmspan first", "zero-code, peer first")
#: ``llmspan.instrument()`` after or before the peer is switched on
PEER_FIRST, LLMSPAN_FIRST = ("in code, peer first", "in code, llmspan first")

OPENAI_MODEL = "gpt-5.4"
ANTHROPIC_MODEL = "claude-opus-5"
GEMINI_MODEL = "gemini-2.5-flash"
EMBEDDING_MODEL = "text-embedding-3-small"
QUESTION = "What is a trace?"


@dataclass(frozen=True)
class Stage:
    """What a peer is given: where the provider is, and where its spans belong."""

    openai_url: str
    anthropic_url: str
    google_url: str
    tracer_provider: Any
    exporter: Any


@dataclass(frozen=True)
class Peer:
    """One row of the matrix. Nothing of it is imported before ``activate`` or a call runs."""

    name: str
    environment: str
    #: surface -> a call, or several
    calls: Mapping[str, Callable[[Stage], None]]
    #: its distributions, whose versions the documentation names
    packages: tuple[str, ...] = ()
    #: switches the peer on from code; None if it does nothing until it is called
    activate: Callable[[Stage], None] | None = None
    #: instrumentation scopes of the spans that show that the peer is at work; one of them is in every cell
    scopes: tuple[str, ...] = ()
    #: surfaces that the peer makes no span for
    without_spans: tuple[str, ...] = ()
    #: whether ``opentelemetry-instrument`` switches it on; else ``activate`` does so in a zero-code program, too
    has_entry_point: bool = False
    #: entry points of the environment that are not under test
    disabled: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    #: whether it sets the global tracer provider itself
    owns_provider: bool = False
    #: whether the usage of its streams is on a log beside the call's span
    logs_usage: bool = False
    #: left out of the runs without ``--all``
    is_large: bool = False

    @property
    def orders(self) -> tuple[str, ...]:
        """In which orders the peer and llmspan can come into a program."""
        zero_code = (ZERO_CODE_PEER_FIRST, ZERO_CODE) if self.has_entry_point else (ZERO_CODE,)
        return (*zero_code, PEER_FIRST, LLMSPAN_FIRST)
