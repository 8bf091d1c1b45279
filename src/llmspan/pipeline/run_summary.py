"""What a process has called so far, and where its records are, for the one line at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..trace import FAILED, ProviderTrace
from .statistics import BackendStatus


class RunSummary:
    """Running sums over the records that were made. Used by one thread, read by another when that is idle."""

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.tokens: dict[str, int] = {}
        self.without_usage = 0

    def add(self, record: ProviderTrace) -> None:
        """Count one record."""
        self.calls += 1
        self.failures += record.status in FAILED
        self.without_usage += record.usage.source == "none"
        for name in ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens"):
            value = getattr(record.usage, name)
            if value is not None:
                self.tokens[name] = self.tokens.get(name, 0) + value

    def format(self, statuses: Sequence[BackendStatus], spool_dir: Path | None = None) -> str:
        """The summary, once the backends are closed; numbers that were not reported are ``-``, not 0."""
        sums = (str(self.tokens.get(f"{name}_tokens", "-")) for name in ("input", "cache_read", "output", "reasoning"))
        into, cached, out, reasoning = sums
        calls = f"{self.calls} call{'' if self.calls == 1 else 's'}"
        unknown = f", {self.without_usage} without usage" if self.without_usage else ""
        return (
            f"llmspan: {calls}, {self.failures} failed; tokens {into} in ({cached} cached), {out} out"
            f" ({reasoning} reasoning){unknown}; {_format_backends(statuses, spool_dir)}"
        )


def _format_backends(statuses: Sequence[BackendStatus], spool_dir: Path | None) -> str:
    """The backends that have every record, then each of the others with what it has and what it has not."""
    exceptions = [text for status in statuses if (text := _format_exceptions(status, spool_dir)) is not None]
    complete = [_name(status) for status in statuses if _format_exceptions(status, spool_dir) is None]
    complete_text = [f"stored in {', '.join(complete)}"] if complete else []
    return "; ".join([*complete_text, *exceptions]) or "stored nowhere"


def _format_exceptions(status: BackendStatus, spool_dir: Path | None) -> str | None:
    """What of a backend's records is not in it as it was made, or None."""
    number_lost = sum(status.dropped.values()) + status.queued
    numbers = {
        "lost": number_lost,
        f"waiting in {spool_dir}": status.spooled,
        "refused and kept as dead letters": status.dead_lettered,
        "without payload": status.without_payload,
    }
    exceptions = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
    if not exceptions and status.accepted:
        return None
    earlier = f" ({status.recovered} of earlier programs)" if status.recovered else ""
    return f"{_name(status)}: {status.delivered} of {status.accepted}{earlier} stored{exceptions and f', {exceptions}'}"


def _name(status: BackendStatus) -> str:
    return f"{status.backend} ({status.location})"
