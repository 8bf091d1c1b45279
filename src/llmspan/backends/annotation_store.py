"""What a backend is that keeps annotations beside the records: a part of the protocol that no backend has to have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ..annotation import Annotation

__all__ = ["SupportsAnnotationCheck", "SupportsAnnotations"]


@runtime_checkable
class SupportsAnnotations(Protocol):
    """A backend that keeps notes and scores beside the records; no backend has to.

    Those of a record go with it, those of a trace with the last of its records, however these are deleted.
    """

    def annotate(self, annotation: Annotation) -> None:
        """Store an annotation.

        Raises:
            RecordError: there is nothing that it could be about; the message names it.
            RefusedError: this user may not write annotations; the message says which right is missing.
            RetryableError: not possible now.
        """
        ...

    def annotations(self, record_ids: Sequence[str], trace_ids: Sequence[str], limit: int) -> Sequence[Annotation]:
        """At most ``limit`` annotations of these records and these traces, the oldest first."""
        ...

    def remove_annotation(self, annotation_id: str) -> bool:
        """Take one out; whether it was there. Raises as :meth:`annotate` does."""
        ...


@runtime_checkable
class SupportsAnnotationCheck(Protocol):
    """A backend that can tell before an annotation is written whether it may be; no backend has to."""

    def annotation_obstacle(self) -> str | None:
        """Why this user cannot add annotations, in a sentence; None if they can, or it cannot be told. Writes nothing.

        Raises:
            BackendError: the store cannot be asked now.
        """
        ...
