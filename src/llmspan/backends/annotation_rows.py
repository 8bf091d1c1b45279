"""Annotations as flat rows of texts and numbers, and the SQL that stores of rows read and write them with.

The columns of the table are :data:`ANNOTATION_COLUMNS`. An annotation is written only where what it is about is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from ..annotation import Annotation
from ..errors import RecordError
from ..limits import plain_text
from .query import Query, SqlDialect
from .rows import Cell

__all__ = [
    "ANNOTATION_COLUMNS",
    "annotation_insert",
    "annotation_subject",
    "annotations_by_id",
    "decode_annotation",
    "encode_annotation",
    "missing_subject",
]

#: UTF-8 bytes of a comment
_COMMENT_BYTES: Final = 16 * 1024
#: in their order; of the two values one at most is there
ANNOTATION_COLUMNS: Final = (
    "id", "record_id", "trace_id", "name", "number_value", "text_value", "comment", "source", "created_at",
)  # fmt: skip
_SAME: Final = tuple(f.name for f in fields(Annotation) if f.name != "value")


def encode_annotation(annotation: Annotation) -> dict[str, Cell]:
    """The row of an annotation, one cell a column."""
    cells: dict[str, Any] = {name: getattr(annotation, name) for name in _SAME}
    is_text = isinstance(annotation.value, str)
    cells["number_value"], cells["text_value"] = (None, annotation.value) if is_text else (annotation.value, None)
    for name, cell in cells.items():
        if isinstance(cell, str):
            cells[name] = plain_text(cell, _COMMENT_BYTES) if name == "comment" else plain_text(cell)
    return {name: cells[name] for name in ANNOTATION_COLUMNS}


def decode_annotation(row: Mapping[str, Any]) -> Annotation:
    """The annotation of a row."""
    number = row["number_value"]
    return Annotation(**{name: row[name] for name in _SAME}, value=row["text_value"] if number is None else number)


def annotations_by_id(dialect: SqlDialect, record_ids: Sequence[str], trace_ids: Sequence[str], limit: int) -> Query:
    """The annotations of these records and these traces, the oldest first."""
    values: dict[str, Cell] = {}
    terms: list[str] = []
    for column, ids in (("record_id", record_ids), ("trace_id", trace_ids)):
        cells: dict[str, Cell] = {f"{column}_{at}": plain_text(name) for at, name in enumerate(dict.fromkeys(ids))}
        if cells:
            values |= cells
            marks = ", ".join(dialect.parameter(name, cell) for name, cell in cells.items())
            terms.append(f"{column} IN ({marks})")
    return Query(
        f"SELECT {', '.join(ANNOTATION_COLUMNS)} FROM {dialect.annotations}"  # noqa: S608 - all ours
        f" WHERE {' OR '.join(terms) or '1 = 0'} ORDER BY created_at, id LIMIT {limit:d}",
        values,
    )


def annotation_insert(dialect: SqlDialect, annotation: Annotation) -> Query:
    """The statement that writes an annotation if what it is about is there, and else no row."""
    cells = encode_annotation(annotation)
    column, value = annotation_subject(annotation)
    marks = ", ".join(dialect.parameter(name, cell) for name, cell in cells.items())
    subject = dialect.parameter("subject", value)
    return Query(
        f"INSERT INTO {dialect.annotations} ({', '.join(ANNOTATION_COLUMNS)}) SELECT {marks}"  # noqa: S608 - all ours
        f" WHERE EXISTS (SELECT 1 FROM {dialect.table} WHERE {column} = {subject})",
        {**cells, "subject": value},
    )


def annotation_subject(annotation: Annotation) -> tuple[str, str]:
    """The column of the records that says what an annotation is about, and its value."""
    if annotation.record_id is not None:
        return "id", plain_text(annotation.record_id)
    return "trace_id", plain_text(annotation.trace_id or "")


def missing_subject(annotation: Annotation, location: str) -> RecordError:
    """The error where there is nothing that the annotation could be about."""
    column, value = annotation_subject(annotation)
    subject = "call" if column == "id" else "call of trace"
    return RecordError(
        f"no {subject} {value!r} in {location}; one that still waits in a queue is stored by llmspan.flush(), and one"
        " that was deleted cannot be annotated"
    )
