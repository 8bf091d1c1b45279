"""The method of readers that compares two calls or two runs, which it finds by their ids."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, Protocol

from .cost import Cost, available
from .errors import RecordError
from .own_prices import OwnPrices
from .query.comparison import (
    CallComparison,
    CostOf,
    RunComparison,
    compare_calls,
    compare_runs,
    paired_steps,
)
from .query.tree import Tree
from .trace import ProviderTrace

__all__ = ["AsyncComparisonReading", "ComparisonReading"]

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
#: calls of one run that are compared
_MOST_CALLS: Final = 500


class _Reading(Protocol):
    @property
    def own_prices(self) -> OwnPrices: ...

    def get(self, record_id: str, /) -> ProviderTrace | None: ...

    def find(self, text: str) -> ProviderTrace | None: ...

    def tree(
        self, *, trace_id: str | None = ..., run_id: str | None = ..., conversation_id: str | None = ...,
        limit: int = ...,
    ) -> Tree: ...  # fmt: skip

    def cost_of(self, record: ProviderTrace) -> Cost: ...


class ComparisonReading:
    """The method of :class:`llmspan.Reader`."""

    def compare(
        self: _Reading, first: str, second: str, *, most_lines: int = 200, most_steps: int = 100
    ) -> CallComparison | RunComparison:
        """What differs between two calls, or between two runs step by step.

        Args:
            first: the id of a call, or its first 8 or more characters, or a trace, a run or a conversation.
            second: likewise, and of the same kind.
            most_lines: lines of a conversation that a comparison has, of messages and answer each.
            most_steps: steps of two runs that are compared; the others are counted.

        Raises:
            RecordError: there is no such call or run, one is a call and the other a run, or a run has over 500 calls.
        """
        calls = self.find(first), self.find(second)
        prices = available(self.own_prices)
        cost_of: CostOf = self.cost_of if prices else _no_cost
        if calls[0] is not None and calls[1] is not None:
            return compare_calls(*calls, cost_of, most_lines=most_lines)
        trees = [_tree(self, name) if call is None else None for name, call in zip((first, second), calls, strict=True)]
        for name, call, tree in zip((first, second), calls, trees, strict=True):
            if call is None and tree is None:
                raise RecordError(f"no call, trace, run or conversation {name!r} in this store")
            if tree is not None and tree.omitted:
                raise RecordError(
                    f"{name!r} has more than {_MOST_CALLS} calls, too many to compare; compare two of its calls, or"
                    " shorter traces or runs"
                )
        if trees[0] is None or trees[1] is None:
            raise RecordError(f"of {first!r} and {second!r} one is a call and the other a run; compare two of a kind")
        pairs = paired_steps(trees[0], trees[1])
        steps = [
            compare_calls(_with_payload(self, old), _with_payload(self, new), cost_of, most_lines=most_lines)
            for old, new in pairs[:most_steps]
        ]
        return compare_runs(
            (first, second), (trees[0], trees[1]), steps, cost_of, omitted=max(len(pairs) - most_steps, 0)
        )


class AsyncComparisonReading:
    """The method of :class:`llmspan.AsyncReader`; the work is done in a thread."""

    _reader: Any

    async def compare(
        self, first: str, second: str, *, most_lines: int = 200, most_steps: int = 100
    ) -> CallComparison | RunComparison:
        """See :meth:`llmspan.Reader.compare`."""
        return await asyncio.to_thread(
            self._reader.compare, first, second, most_lines=most_lines, most_steps=most_steps
        )


def _tree(reader: _Reading, name: str) -> Tree | None:
    """The calls of a trace, else of a run, else of a conversation; None if there are none."""
    kinds = ("trace_id", "run_id", "conversation_id") if _TRACE_ID.fullmatch(name) else ("run_id", "conversation_id")
    trees = (reader.tree(**{kind: name}, limit=_MOST_CALLS) for kind in kinds)
    return next((tree for tree in trees if tree.nodes), None)


def _with_payload(reader: _Reading, record: ProviderTrace | None) -> ProviderTrace | None:
    return None if record is None else reader.get(record.id) or record


def _no_cost(record: ProviderTrace) -> Cost | None:
    del record
