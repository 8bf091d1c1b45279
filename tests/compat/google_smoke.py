"""What has to work on every version of google-genai: each of its surfaces, sync and async, against a local server.

Not collected by pytest: ``run.py`` starts it in environments of their own. A surface that a version does not have is
left out and named; everything else has to give one span and one record with the provider's numbers.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gemini_server import GeminiServer, client_for, gemini_server
from gemini_surfaces import SURFACES, Surface, call, call_async, method_of
from watching import watching

PACKAGE = "google-genai"
#: from here on interactions have the client that is hooked
INTERACTIONS = (2, 7)


def has(server: GeminiServer, surface: Surface) -> bool:
    """Whether this version has the method, and llmspan records it."""
    release = tuple(int(number) for number in version(PACKAGE).split(".")[:2])
    if surface.path.startswith("interactions.") and release < INTERACTIONS:
        return False
    try:
        return method_of(client_for(server, vertex=surface.vertex), surface) is not None
    except AttributeError:
        return False


def smoke(server: GeminiServer, surface: Surface, is_async: bool) -> None:
    """One call is one span and one record."""
    server.reset()
    server.answers(surface.answer())
    with watching() as watch:
        if is_async:
            asyncio.run(_call(client_for(server, "aiohttp", vertex=surface.vertex), surface))
        else:
            call(client_for(server, vertex=surface.vertex), surface)
    record, span = watch.only()
    usage = record.usage.input_tokens, record.usage.output_tokens
    assert (record.status, record.api, record.stream, usage) == ("ok", surface.api, surface.stream, surface.usage), (
        record
    )
    assert (span.attributes or {}).get("gen_ai.usage.input_tokens") == surface.usage[0]
    assert record.request_json == (server.requests[-1].body.decode() or None)


async def _call(client: Any, surface: Surface) -> None:
    try:
        await call_async(client, surface)
    finally:
        if hasattr(client.aio, "aclose"):
            await client.aio.aclose()


def main() -> None:
    warnings.simplefilter("ignore")
    missing: list[str] = []
    calls = 0
    with gemini_server() as server:
        for surface in SURFACES:
            if not has(server, surface):
                missing.append(surface.name)
                continue
            for is_async in (False, True):
                try:
                    smoke(server, surface, is_async)
                except BaseException:
                    print(f"{PACKAGE} {version(PACKAGE)}: {surface.name}, {'async' if is_async else 'sync'}")
                    raise
                calls += 1
    left_out = f"; it has no {', '.join(missing)}" if missing else ""
    print(f"{PACKAGE} {version(PACKAGE)}: {calls} calls recorded{left_out}")


if __name__ == "__main__":
    main()
