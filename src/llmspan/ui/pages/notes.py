"""Notes and scores of a call or of a trace, and the form that adds one or takes one out, without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ...annotation import Annotation, value_text
from ...annotation_writing import annotate_in, remove_annotation_in
from ...backends.base import Filters
from ...errors import BackendError, LlmspanError, RecordError, SettingsError
from ...query.conditions import exact_number_of
from ...reader import Reader
from ...settings import Settings
from ..note_forms import CALL_NOTES, PAGES, TRACE_NOTES, NoteForm, obstacle_of
from ..rendering import page_of, render, store_of

__all__ = ["annotate", "annotate_trace", "notes", "trace_notes"]

#: bytes of a form
_MOST_BYTES: Final = 128 * 1024
_MOST_FIELDS: Final = 20


@dataclass(frozen=True, slots=True)
class _Found:
    """What the page of a call or a trace shows; ``has_trace`` is whether notes of a trace are among those of a call."""

    notes: Sequence[Annotation]
    form: NoteForm
    has_trace: bool = False


async def notes(request: Request) -> Response:
    """The page of the annotations of a call."""
    record_id: str = request.path_params["id"]

    def load(reader: Reader) -> _Found | None:
        record = reader.find(record_id)
        if record is None:
            return None
        form = NoteForm(CALL_NOTES, record.id, CALL_NOTES, record.id, obstacle_of(request, reader))
        annotations = reader.annotations(record_id=record.id, trace_id=record.trace_id)
        return _Found(annotations, form, record.trace_id is not None)

    return _page(request, "call", record_id, await store_of(request).run(load))


async def trace_notes(request: Request) -> Response:
    """The page of the annotations of a trace."""
    trace_id: str = request.path_params["id"]

    def load(reader: Reader) -> _Found | None:
        if not reader.list(Filters(trace_id=trace_id), limit=1).traces:
            return None
        form = NoteForm(TRACE_NOTES, trace_id, TRACE_NOTES, trace_id, obstacle_of(request, reader))
        return _Found(reader.annotations(trace_id=trace_id), form)

    return _page(request, "trace", trace_id, await store_of(request).run(load))


def _page(request: Request, kind: str, subject: str, page_notes: _Found | None) -> Response:
    if page_notes is None:
        values = {"title": f"No such {kind}", "text": f"There is no {kind} {subject!r} in this store.", "remedy": None}
        return render(request, "problem.html", values, status=404)
    values = {
        "kind": kind,
        "notes": page_notes.notes,
        "form": page_notes.form,
        "has_trace": page_notes.has_trace,
    }
    return render(request, "notes.html", {**values, "value_text": value_text})


async def annotate(request: Request) -> Response:
    """Store what the form has about a call, or remove the annotation that it names."""
    return await _change(request, CALL_NOTES)


async def annotate_trace(request: Request) -> Response:
    """Store what the form has about a trace, or remove the annotation that it names."""
    return await _change(request, TRACE_NOTES)


async def _change(request: Request, kind: str) -> Response:
    subject: str = request.path_params["id"]
    form = await _form(request)
    settings = Settings.from_env()

    def change(reader: Reader) -> None:
        if removed := form.get("remove"):
            remove_annotation_in(reader.backend, removed)
            return
        value = form.get("value", "").strip()
        number = exact_number_of(value)
        annotate_in(
            reader.backend, settings, record_id=subject if kind == CALL_NOTES else None,
            trace_id=subject if kind == TRACE_NOTES else None, name=form.get("name", "").strip() or "score",
            value=value if number is None else number, comment=form.get("comment", "").strip(),
            source=form.get("source", "").strip(),
        )  # fmt: skip

    try:
        await store_of(request).run(change)
    except (RecordError, SettingsError, BackendError) as error:
        return _refusal(request, error)
    page = form.get("page", kind)
    page = page if page in PAGES else kind
    return RedirectResponse(page_of(page, form.get("page_id") or subject), 303)


async def _form(request: Request) -> dict[str, str]:
    """The fields of the form; the last one of each name."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"a note has at most {_MOST_BYTES // 1024} KiB")
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise HTTPException(400, f"a note has at most {_MOST_FIELDS} fields") from None


def _refusal(request: Request, error: LlmspanError) -> Response:
    """Why nothing was stored: a value, a missing right, or the state of the store."""
    status = 400 if isinstance(error, RecordError) else 403 if isinstance(error, SettingsError) else 503
    remedy = (
        "This viewer reads a store that it may not write to; all else on the page works." if status == 403 else None
    )
    values = {"title": "The note is not stored", "text": str(error), "remedy": remedy, "links": []}
    return render(request, "problem.html", values, status=status)
