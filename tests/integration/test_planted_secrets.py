"""Planted secrets: every place of a call where a secret can be, and every sink that it could reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planted import marks
from planted.matrix import PLACES, PROMPT_PLACES, SINKS, STORES, Place, Run, has_span, run_matrix, run_without_masks

ALL = (*PLACES, *PROMPT_PLACES)
NAMES = {place.number: place.name for place in ALL}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        yield run_matrix(tmp_path_factory.mktemp("planted"), patch)


@pytest.mark.parametrize("sink", SINKS)
def test_no_secret_reaches_a_sink(sink: str, run: Run, record_property: Any) -> None:
    """Of the secrets of all places no piece is in a sink, in any encoding."""
    leaks = marks.leaks(run.sinks[sink])
    leaking = {NAMES.get(leak.number or 0, "?") for leak in leaks}
    record_property("planted secrets: searched", len(ALL))
    record_property("planted secrets: found", len(leaking))
    assert not leaks, "\n".join(f"{NAMES.get(leak.number or 0, '?')}: {leak.context!r}" for leak in leaks[:200])


def without_canary(content: bytes, places: list[Place]) -> list[str]:
    return [place.name for place in places if marks.canary(place.number).encode() not in content]


@pytest.mark.parametrize("sink", STORES)
def test_each_place_reaches_each_store(sink: str, run: Run) -> None:
    """The search looks at the right bytes: what stands beside each secret is there."""
    assert without_canary(run.sinks[sink], [place for place in ALL if place.act is not None]) == []


@pytest.mark.parametrize("sink", ["OTLP spans", "OTLP events"])
def test_each_call_is_exported(sink: str, run: Run) -> None:
    """What stands beside the secret of a call is on its span and in its event."""
    assert without_canary(run.sinks[sink], [place for place in ALL if has_span(place)]) == []


def test_the_search_finds_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the masks switched off the secret of each place is stored and found: none is planted where nobody looks.

    One place is safe without masks: of ``gen_ai.openai.api_base`` only the host is read.
    """
    leaks = marks.leaks(run_without_masks(tmp_path, monkeypatch))
    numbers = {leak.number for leak in leaks}
    assert [place.name for place in ALL if place.act is not None and place.number not in numbers] == ["span: api_base"]


@pytest.mark.parametrize("encoded", [*marks.encodings(marks.opaque(7)), *marks.encodings(f"ab{marks.opaque(7)}cd")])
def test_the_search_finds_every_encoding(encoded: bytes) -> None:
    """A secret is found in each encoding, wherever it begins."""
    assert marks.leaks(b"x" + encoded + b"y")
    assert marks.leaks(encoded[4:9] + b"Zq8XkHea Wv7JdTai") == []
