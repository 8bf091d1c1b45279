"""``llmspan annotate``: give a note or a score to a call or to a trace, or take one out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options
from .output import echo

if TYPE_CHECKING:
    from ..reader import Reader

__all__ = ["annotate"]


@click.command()
@click.argument("record_id", metavar="[ID]", required=False)
@click.option("--trace-id", metavar="ID", help="Annotate this trace instead of a call.")
@click.option("--name", metavar="NAME", help="What it says; the default is score.")
@click.option("--score", type=float, metavar="NUMBER", help="A number; the same as --value NUMBER.")
@click.option("--value", metavar="VALUE", help="A number or a text.")
@click.option("--comment", metavar="TEXT", help="A note in words.")
@click.option("--source", metavar="WHO", help="Who says so: a person or a program.")
@click.option("--remove", metavar="ID", help="Take out the annotation with this id, which `llmspan show` prints.")
@options.as_json
@options.store
def annotate(
    *,
    record_id: str | None,
    trace_id: str | None,
    name: str | None,
    score: float | None,
    value: str | None,
    comment: str | None,
    source: str | None,
    remove: str | None,
    as_json: bool,
    backend: str | None,
    db: str | None,
) -> None:
    """Give a note or a score to a call.

    The call does not change, and --remove takes the note out again. It goes to the store that is read.
    `--where 'score<0'` finds the calls that have one.
    """
    if sum(subject is not None for subject in (record_id, trace_id, remove)) != 1:
        raise click.UsageError("give one of ID, --trace-id, --remove")
    with options.open_reader(backend, db) as reader:
        if remove is not None:
            _remove(reader, remove, as_json=as_json)
            return
        from ..annotation import SCORE
        from ..annotation_writing import annotate_in
        from ..query.conditions import exact_number_of
        from ..settings import Settings

        number = None if value is None else exact_number_of(value)
        annotation = annotate_in(
            reader.backend,
            Settings.from_env(),
            record_id=None if record_id is None else _whole_id(reader, record_id),
            trace_id=trace_id,
            name=SCORE if name is None else name,
            score=score,
            value=value if number is None else number,
            comment=comment,
            source=source,
        )
    if as_json:
        echo(annotation.to_json_line())
        return
    subject = f"call {annotation.record_id}" if trace_id is None else f"trace {trace_id}"
    echo(f"{annotation.id}: {subject} has the annotation {annotation.name}")


def _remove(reader: Reader, annotation_id: str, *, as_json: bool) -> None:
    from .. import _json
    from ..annotation_writing import remove_annotation_in

    if not remove_annotation_in(reader.backend, annotation_id):
        raise click.ClickException(
            f"no annotation {annotation_id!r} in {reader.backend.name} ({reader.backend.location})"
        )
    echo(_json.dumps({"id": annotation_id, "removed": True}) if as_json else f"{annotation_id}: removed")


def _whole_id(reader: Reader, record_id: str) -> str:
    record = reader.find(record_id)
    if record is None:
        raise click.ClickException(f"no call {record_id!r} in {reader.backend.name} ({reader.backend.location})")
    return record.id
