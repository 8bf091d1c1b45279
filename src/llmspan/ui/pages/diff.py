"""Two calls, or two runs step by step, side by side as far as they differ."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...errors import RecordError
from ...query.comparison import CallComparison, Number, RunComparison
from ..formats import count, duration, money
from ..rendering import render, store_of

__all__ = ["diff", "diff_json"]


async def diff(request: Request) -> Response:
    """The page of a comparison; without two ids, the form that asks for them."""
    names = _names(request)
    if not all(names):
        return _page(request, names, None, "")
    try:
        comparison = await _compare(request)
    except RecordError as error:
        return _page(request, names, None, str(error), status=404)
    return await asyncio.to_thread(lambda: _page(request, names, comparison, ""))


async def diff_json(request: Request) -> Response:
    """The comparison as ``llmspan diff --json`` prints it."""
    try:
        return JSONResponse((await _compare(request)).to_dict())
    except RecordError as error:
        return JSONResponse({"error": str(error)}, 404)


async def _compare(request: Request) -> CallComparison | RunComparison:
    first, second = _names(request)
    return await store_of(request).run(lambda reader: reader.compare(first, second))


def _names(request: Request) -> tuple[str, str]:
    first, second = (request.query_params.get(name, "").strip() for name in ("a", "b"))
    return first, second


def _page(
    request: Request, names: tuple[str, str], comparison: CallComparison | RunComparison | None, problem: str,
    status: int = 200,
) -> Response:  # fmt: skip
    calls = [comparison] if isinstance(comparison, CallComparison) else comparison.steps if comparison else []
    values = {
        "a": names[0], "b": names[1], "problem": problem, "comparison": comparison, "calls": calls,
        "run": comparison if isinstance(comparison, RunComparison) else None, "side": _side,
    }  # fmt: skip
    return render(request, "diff.html", values, status=status)


def _side(number: Number, value: int | Decimal | None) -> str:
    """A number as the pages write it; a dash if it is not reported."""
    if isinstance(value, Decimal) or number.unit:
        return money(value if isinstance(value, Decimal) else None, number.unit)
    if not number.name.endswith("_ns"):
        return count(value)
    return duration(value) if value is None or value >= 0 else f"-{duration(-value)}"
