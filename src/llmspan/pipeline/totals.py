"""What a process has called so far, for the one line at its end."""

from __future__ import annotations

from ..trace import FAILED, ProviderTrace


class Totals:
    """Running sums over the records that were made. Used by one thread, read by another when that is idle."""

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.tokens: dict[str, int] = {}
        self.without_usage = 0

    def add(self, trace: ProviderTrace) -> None:
        """Count one record."""
        self.calls += 1
        self.failures += trace.status in FAILED
        self.without_usage += trace.usage.source == "none"
        for name in ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens"):
            value = getattr(trace.usage, name)
            if value is not None:
                self.tokens[name] = self.tokens.get(name, 0) + value

    def line(self, stored: str) -> str:
        """The summary; numbers that nobody reported are ``-``, not 0."""
        told = (str(self.tokens.get(f"{name}_tokens", "-")) for name in ("input", "cache_read", "output", "reasoning"))
        into, cached, out, reasoning = told
        calls = f"{self.calls} call{'' if self.calls == 1 else 's'}"
        unknown = f", {self.without_usage} without usage" if self.without_usage else ""
        return (
            f"llmspan: {calls}, {self.failures} failed; tokens {into} in ({cached} cached), {out} out"
            f" ({reasoning} reasoning){unknown}; stored in {stored}"
        )
