"""The classes that ``opentelemetry-instrument`` loads: one per SDK, under the entry points ``llmspan_...``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # pyright: ignore[reportMissingTypeStubs]

from . import lifecycle

__all__ = ["AnthropicInstrumentor", "GoogleGenAIInstrumentor", "OpenAIInstrumentor"]


class _ProviderInstrumentor(BaseInstrumentor):
    """Instruments one SDK with the settings of the environment. Never raises about those."""

    #: the name of the provider's entry point
    provider: ClassVar[str]
    #: the SDK's package on the index
    distribution: ClassVar[str]
    oldest: ClassVar[str]

    def instrumentation_dependencies(self) -> Collection[str]:
        """The SDK versions that this works with; none are too new."""
        return (f"{self.distribution} >= {self.oldest}",)

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether this class has instrumented the SDK, and nothing has put it back since."""
        return self._is_instrumented_by_opentelemetry and lifecycle.is_instrumented(self.provider)

    def instrument(self, **kwargs: Any) -> Any:
        """Instrument the SDK, also after ``llmspan.uninstrument()`` or ``llmspan.shutdown()``."""
        # the base class keeps a flag of its own, which those two functions cannot know: with the flag still set,
        # it would only warn, and the next test of a suite would see no span
        self._is_instrumented_by_opentelemetry = self.is_instrumented_by_opentelemetry
        return super().instrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        names = ("tracer_provider", "logger_provider", "meter_provider")
        lifecycle.instrument_provider(self.provider, **{name: kwargs.get(name) for name in names})

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002
        lifecycle.uninstrument_provider(self.provider)


class OpenAIInstrumentor(_ProviderInstrumentor):
    """Records calls made with the ``openai`` package."""

    provider = distribution = "openai"
    oldest = "1.50"


class AnthropicInstrumentor(_ProviderInstrumentor):
    """Records calls made with the ``anthropic`` package."""

    provider = distribution = "anthropic"
    oldest = "0.51"


class GoogleGenAIInstrumentor(_ProviderInstrumentor):
    """Records calls made with the ``google-genai`` package."""

    provider = "google_genai"
    distribution = "google-genai"
    oldest = "1.32"
