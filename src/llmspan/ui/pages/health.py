"""Whether calls are recorded and nothing is lost: the findings of ``llmspan doctor`` that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..rendering import render, store_of

__all__ = ["Finding", "health", "health_json"]


class Finding(Protocol):
    """What was looked at, how it is (``ok``, ``note`` or ``problem``), and what would help."""

    @property
    def check(self) -> str:
        """What was looked at."""
        ...

    @property
    def level(self) -> str:
        """``ok``, ``note`` or ``problem``."""
        ...

    @property
    def message(self) -> str:
        """What was found."""
        ...


async def health(request: Request) -> Response:
    """The page of all findings."""
    findings = await _findings(request)
    problems = sum(finding.level == "problem" for finding in findings)
    return render(request, "health.html", {"findings": findings, "problems": problems})


async def health_json(request: Request) -> Response:
    """The findings as JSON."""
    findings: list[dict[str, Any]] = [
        {"check": finding.check, "level": finding.level, "message": finding.message}
        for finding in await _findings(request)
    ]
    return JSONResponse({"findings": findings})


async def _findings(request: Request) -> Sequence[Finding]:
    find = cast("Callable[[], Sequence[Finding]]", request.app.state.findings)
    return await store_of(request).in_thread(find)
