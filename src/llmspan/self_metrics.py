"""The one instrument about llmspan itself: how often the guard had to keep something from the program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from . import _guard
from ._version import __version__

__all__ = ["register"]

ERRORS: Final = "llmspan.internal.errors"
PLACE: Final = "llmspan.place"


def register(meter_provider: MeterProvider | None = None) -> None:
    """Offer the counter to ``meter_provider``, by default the global one, also one that is set later."""
    meter = get_meter("llmspan", __version__, meter_provider)
    meter.create_observable_counter(
        ERRORS,
        callbacks=[_errors],
        unit="{error}",
        description="Defects of llmspan that were kept from the program, by the place where they happened.",
    )


def _errors(_: CallbackOptions) -> Iterator[Observation]:
    for operation, count in _guard.failures().items():
        yield Observation(count, {PLACE: operation})
