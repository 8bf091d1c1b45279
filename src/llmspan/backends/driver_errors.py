"""Errors of drivers and servers, without the credentials that they may repeat.

A server, a pooler or a proxy may say what it was sent, as it is or encoded. It is masked in the messages of our errors;
a cause that repeats it is taken out of the chain, as every traceback shows the causes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from typing import Final

from ..redaction import ExactMask

__all__ = ["credentials_mask", "masked_errors"]

_DELIMITERS: Final = re.compile(r"[/:@?&=,\s]+")


def credentials_mask(credentials: Collection[str | None], location: str) -> ExactMask:
    """The mask for ``credentials``, without those that ``location`` shows in any case (a user's name)."""
    words = set(_DELIMITERS.split(location))
    return ExactMask.of(text for text in credentials if text and text not in words)


@contextmanager
def masked_errors(credentials: Collection[str | None], location: str) -> Generator[None]:
    """Mask ``credentials`` in what is raised inside the block; ``location``, which has none, stays as it is.

    They are read when something is raised: the block may add to them.
    """
    try:
        yield
    except Exception as error:
        mask = credentials_mask(credentials, location)
        if mask:
            error.args = tuple(_masked(value, mask, location) for value in error.args)
            if any(_repeats(cause, mask, location) for cause in _causes(error)):
                error.__cause__ = error.__context__ = None
        raise


def _masked(value: object, mask: ExactMask, location: str) -> object:
    if not isinstance(value, str):
        return value
    return location.join(map(mask, value.split(location))) if location else mask(value)


def _repeats(error: BaseException, mask: ExactMask, location: str) -> bool:
    text = f"{error}\n{error.args!r}"
    return _masked(text, mask, location) != text


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that a traceback of ``error`` shows before it."""
    seen_ids = {id(error)}
    pending = [error.__cause__, error.__context__]
    while pending:
        cause = pending.pop()
        if cause is not None and id(cause) not in seen_ids:
            seen_ids.add(id(cause))
            yield cause
            pending += cause.__cause__, cause.__context__
