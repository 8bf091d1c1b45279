"""Notes and scores for records and traces: ``llmspan.annotate``, and what the commands and the viewer share with it.

They go to the one store that is read, the first of ``LLMSPAN_BACKENDS`` that can be. Texts are masked and redacted as
the attributes of a record are; what cannot be redacted is not stored. A store that is not there is never made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

from .annotation import SCORE, Annotation
from .backends import primary_backend
from .backends.annotation_rows import missing_subject
from .backends.annotation_store import SupportsAnnotationCheck, SupportsAnnotations
from .backends.base import Backend
from .content import ContentPolicy
from .errors import NoTablesError, RecordError, SchemaError, SettingsError, shorten_traceback
from .settings import Settings

__all__ = [
    "annotate", "annotate_async", "annotate_in", "annotation_obstacle", "remove_annotation", "remove_annotation_in",
]  # fmt: skip


class StoreArguments(TypedDict, total=False):
    """The settings that say which store."""

    backends: str | Sequence[str] | None
    sqlite_path: str | os.PathLike[str] | None
    postgres_dsn: str | None
    clickhouse_dsn: str | None


class _Content(TypedDict, total=False):
    record_id: str | None
    trace_id: str | None
    name: str
    score: float | None
    value: float | str | None
    comment: str | None
    source: str | None


@shorten_traceback
def annotate(
    *,
    record_id: str | None = None,
    trace_id: str | None = None,
    name: str = SCORE,
    score: float | None = None,
    value: float | str | None = None,
    comment: str | None = None,
    source: str | None = None,
    **store: Unpack[StoreArguments],
) -> str:
    """Give a note or a score to a stored call or to a trace; returns the annotation's id. The records do not change.

    It is written at once to the store that :class:`llmspan.Reader` reads, so call it from no event loop
    (:func:`annotate_async`), and for a call that was just made call :func:`llmspan.flush` before.

    >>> llmspan.annotate(record_id="call-2", score=1, comment="right, and short", source="ann")  # doctest: +SKIP
    '01987a6e-8f1e-7c4e-a7cf-3c1f53d4a2b1'

    Args:
        record_id: the call, by its whole id; or else
        trace_id: the trace, 32 hexadecimal digits.
        name: what it says: ``score``, ``helpful``, ``note``, ... Filters ask for it as ``annotation.NAME``.
        score: a number, the same as ``value``.
        value: a number or a text; a truth value is 1 or 0.
        comment: up to 16 KiB of text.
        source: who says so: a person, or a program.
        store: ``backends``, ``sqlite_path``, ``postgres_dsn``, ``clickhouse_dsn``: they win over the environment.

    Raises:
        RecordError: there is no such call or trace, a value cannot be stored, or it could not be redacted.
        SettingsError: a setting is wrong, all stores only take records (a socket), or this user may not write there.
        BackendError: the store cannot do it now, or was made by another version.
    """
    settings = Settings.from_env(**store, auto_migrate=False)
    backend = primary_backend(settings)
    try:
        content = _Content(
            record_id=record_id, trace_id=trace_id, name=name, score=score, value=value, comment=comment, source=source
        )
        return annotate_in(backend, settings, **content).id
    finally:
        backend.shutdown()


async def annotate_async(
    *,
    record_id: str | None = None,
    trace_id: str | None = None,
    name: str = SCORE,
    score: float | None = None,
    value: float | str | None = None,
    comment: str | None = None,
    source: str | None = None,
    **store: Unpack[StoreArguments],
) -> str:
    """:func:`annotate` for event loops: it runs in a thread."""
    return await asyncio.to_thread(
        lambda: annotate(
            record_id=record_id, trace_id=trace_id, name=name, score=score, value=value, comment=comment,
            source=source, **store,
        )
    )  # fmt: skip


@shorten_traceback
def remove_annotation(annotation_id: str, **store: Unpack[StoreArguments]) -> bool:
    """Take a note or a score out of the store again; whether it was there.

    Raises:
        SettingsError: as :func:`annotate`.
        BackendError: as :func:`annotate`.
    """
    backend = primary_backend(Settings.from_env(**store, auto_migrate=False))
    try:
        return remove_annotation_in(backend, annotation_id)
    finally:
        backend.shutdown()


def annotate_in(backend: Backend, settings: Settings, **content: Unpack[_Content]) -> Annotation:
    """Store an annotation in one store, and return it. Raises as :func:`annotate`."""
    score, value = content.pop("score", None), content.pop("value", None)
    if score is not None and value is not None:
        raise RecordError("give score or value, which are the same, not both")
    annotation = _redacted(
        Annotation.make(
            record_id=content.get("record_id"), trace_id=content.get("trace_id"), name=content.get("name", SCORE),
            value=value if score is None else score, comment=content.get("comment"), source=content.get("source"),
        ),
        ContentPolicy.from_settings(settings),
    )  # fmt: skip
    try:
        _annotated_backend(backend).annotate(annotation)
    except NoTablesError:
        raise missing_subject(annotation, backend.location) from None
    return annotation


def remove_annotation_in(backend: Backend, annotation_id: str) -> bool:
    """Take an annotation out of one store; whether it was there."""
    try:
        return _annotated_backend(backend).remove_annotation(annotation_id)
    except NoTablesError:
        return False


def annotation_obstacle(backend: Backend) -> str | None:
    """Why :func:`annotate_in` would be refused, whatever the annotation; None if nothing is known that speaks against.

    Raises:
        RetryableError: the store cannot be asked now.
    """
    if not isinstance(backend, SupportsAnnotations):
        return f"the backend {backend.name!r} ({backend.location}) keeps no annotations"
    if not isinstance(backend, SupportsAnnotationCheck):
        return None
    try:
        return backend.annotation_obstacle()
    except NoTablesError:
        return None  # then there is no call either
    except (SchemaError, SettingsError) as error:
        return str(error)


def _annotated_backend(backend: Backend) -> SupportsAnnotations:
    if not isinstance(backend, SupportsAnnotations):
        raise SettingsError(f"the backend {backend.name!r} ({backend.location}) keeps no annotations")
    return backend


def _redacted(annotation: Annotation, policy: ContentPolicy) -> Annotation:
    """The annotation as it may be stored.

    Raises:
        RecordError: it cannot be redacted.
    """
    texts = {
        key: text for key in ("name", "value", "comment", "source") if isinstance(text := getattr(annotation, key), str)
    }
    cleaned = policy.clean_attributes(texts)
    if set(cleaned) != set(texts) or not all(isinstance(text, str) for text in cleaned.values()):
        raise RecordError("the annotation could not be redacted, and is not stored; the log says why")
    return replace(annotation, **cleaned)
