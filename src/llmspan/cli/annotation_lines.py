"""Notes and scores in a terminal: what, who and when on one line, the comment below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from ..annotation import Annotation, value_text
from ..trace import datetime_of
from .render import clean, clean_lines
from .zone import clock_time

__all__ = ["annotation_lines"]


def annotation_lines(annotations: Sequence[Annotation]) -> Iterator[RenderableType]:
    """The lines of the annotations, below a blank one where there are any."""
    if annotations:
        yield Text()
    for annotation in annotations:
        of_trace = " of the trace" if annotation.trace_id is not None else ""
        source = "" if annotation.source is None else f"  by {annotation.source}"
        when = clock_time(datetime_of(annotation.created_at))
        yield Text.assemble(
            clean(annotation.name, "bold"),
            clean(f" {value_text(annotation)}" if annotation.value is not None else ""),
            clean(f"{of_trace}{source}  {when}  {annotation.id}", "dim"),
        )
        if annotation.comment is not None:
            yield Padding(clean_lines(annotation.comment), (0, 0, 0, 2), expand=False)
