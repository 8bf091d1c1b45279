"""``Annotation``: a note or a score that somebody gave to a record or to a trace, afterwards.

It stands beside the records, which never change, and goes with the last of what it is about. A value is a number or a
text; a number is a float in every store.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from time import time_ns
from typing import Any, Final

from . import _json
from .errors import RecordError
from .printable import json_printable
from .trace import ProviderTrace, _format_time, new_id

__all__ = ["SCORE", "Annotation", "annotated_json_line", "value_text"]

#: the name of an annotation that is given none
SCORE: Final = "score"
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
#: whole numbers beyond are not exact as a float
_EXACT: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A note or a score. It is about a record or a trace; times are nanoseconds since the epoch, UTC."""

    id: str
    record_id: str | None = None
    trace_id: str | None = None
    name: str = SCORE
    value: float | str | None = None
    comment: str | None = None
    #: who gave it, such as ``ann``, ``user-feedback`` or ``judge/gpt-5``
    source: str | None = None
    created_at: int

    @classmethod
    def make(
        cls,
        *,
        record_id: str | None,
        trace_id: str | None,
        name: str,
        value: float | str | None,
        comment: str | None,
        source: str | None,
    ) -> Annotation:
        """A new annotation, of now.

        Raises:
            RecordError: a value cannot be in one; the message names it and what would be right.
        """
        _check_subject(record_id, trace_id)
        for key, text in (("name", name), ("comment", comment), ("source", source)):
            if text is not None and not isinstance(text, str):
                raise RecordError(f"{key} is {text!r:.80}; it must be text")
        if not name:
            raise RecordError("name is empty; an annotation has a name, such as score, helpful or note")
        number_or_text = _checked_value(value)
        if number_or_text is None and not comment:
            raise RecordError("there is neither a value nor a comment; give score=1, value='good' or comment='...'")
        return cls(
            id=new_id(), record_id=record_id, trace_id=trace_id, name=name, value=number_or_text,
            comment=comment or None, source=source or None, created_at=time_ns(),
        )  # fmt: skip

    def is_about(self, record: ProviderTrace) -> bool:
        """Whether it was given to this record, or to its trace."""
        if self.record_id is not None:
            return self.record_id == record.id
        return self.trace_id == record.trace_id

    def to_dict(self) -> dict[str, Any]:
        """All values, ``created_at`` as an ISO time."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"created_at": _format_time(self.created_at)}

    def to_json_line(self) -> str:
        """One JSON object on one line, without a control character."""
        return json_printable(_json.dumps(self.to_dict()))


def value_text(annotation: Annotation) -> str:
    """The value as it is read: a whole number without a fraction."""
    value = annotation.value
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def annotated_json_line(record: ProviderTrace, annotations: Sequence[Annotation]) -> str:
    """The record's line, with the annotations behind its own keys where there are any."""
    line = record.to_json_line()
    if not annotations:
        return line
    return f'{line[:-1]},"annotations":[{",".join(note.to_json_line() for note in annotations)}]}}'


def _check_subject(record_id: str | None, trace_id: str | None) -> None:
    if (record_id is None) == (trace_id is None):
        raise RecordError("an annotation is about one record or one trace: give exactly one of record_id and trace_id")
    subject = record_id if trace_id is None else trace_id
    if not isinstance(subject, str) or not subject:
        raise RecordError(f"{subject!r:.80} is no id; record_id and trace_id are texts")
    if trace_id is not None and not _TRACE_ID.fullmatch(trace_id):
        raise RecordError(f"trace_id is {trace_id!r:.80}; it must be 32 hexadecimal digits, in lower case")


def _checked_value(value: object) -> float | str | None:
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int) and abs(value) <= _EXACT:  # true and false are 1 and 0
        return float(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise RecordError(f"value is {value!r:.80}; it must be text or a finite number, exact as a float")
