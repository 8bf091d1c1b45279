"""``Filters``: which records are meant, typed, and the same for every store.

Each field compares one key with a value, with several, or with all but some. Whatever else can be asked for is a
:class:`~llmspan.query.conditions.Condition`; conditions, ``model`` and ``tag`` need a backend that knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import tzinfo
from typing import TYPE_CHECKING, Final, get_args

from ..errors import QueryError, SettingsError
from ..trace import RecordStatus
from .conditions import Condition, Equal

if TYPE_CHECKING:
    from ..annotation import Annotation
    from ..trace import ProviderTrace

__all__ = ["Filters", "NoneOf", "OneOf", "Wanted"]


@dataclass(frozen=True, slots=True)
class OneOf:
    """A filter: the value is one of these."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """A filter: the value is none of these. A record without any value passes."""

    values: tuple[str, ...]


#: what a filter on a key can be: exactly this value, one of several, none of several
Wanted = str | OneOf | NoneOf | None

#: keys of which all possible values are known
_CLOSED: Final[Mapping[str, tuple[str, ...]]] = {"status": get_args(RecordStatus)}
#: fields under another name than their key's
_KEYS: Final[Mapping[str, str]] = {"tag": "agent_tags"}
#: fields that only backends with ``SupportsConditions`` know
_LATER: Final = ("model", "tag")
#: fields that are not compared with values of a key
_OTHERS: Final = ("since", "until", "conditions")
#: values of all filters together, which every database takes in one statement
_MOST_VALUES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which records are meant; every given filter must hold. Times are nanoseconds since the epoch, UTC.

    >>> Filters(status="error") == Filters.parse("status:error")
    True

    Raises:
        SettingsError: a value that no record can have.
        QueryError: more than 1,000 values, in all filters together.
    """

    id: Wanted = None
    trace_id: Wanted = None
    run_id: Wanted = None
    step_id: Wanted = None
    agent_id: Wanted = None
    conversation_id: Wanted = None
    user_id: Wanted = None
    org_id: Wanted = None
    provider: Wanted = None
    operation: Wanted = None
    request_model: Wanted = None
    response_model: Wanted = None
    status: Wanted = None
    call_type: Wanted = None
    source: Wanted = None
    #: inclusive
    since: int | None = None
    #: exclusive
    until: int | None = None
    #: the response model, or the requested one where none came back
    model: Wanted = None
    #: one of the record's ``agent_tags``
    tag: Wanted = None
    #: all of these hold, too
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        count = sum(len(choice.values) for choice in self._choices().values())
        count += sum(len(condition.tests) for condition in self.conditions)
        if count > _MOST_VALUES:
            raise QueryError(f"filters have at most {_MOST_VALUES} values, not {count}; ask in several steps")
        for name, allowed in _CLOSED.items():
            choice = _choice(getattr(self, name))
            for value in choice.values if choice else ():
                if value not in allowed:
                    raise SettingsError(f"{name}={value}: no record has that; choose from {', '.join(allowed)}")

    @classmethod
    def parse(cls, *texts: str, now: int | None = None, zone: tzinfo | None = None) -> Filters:
        """The filters that are written in the query language (docs/querying.md); several texts are as one.

        >>> Filters.parse("status:error,incomplete tokens>1000 tenant=acme -user:bot").status
        OneOf(values=('error', 'incomplete'))

        Args:
            texts: such as ``'model:claude* duration>2s since:1h "free text"'``.
            now: from when ``1h`` is counted, in nanoseconds; by this machine's clock if None.
            zone: of dates and times that have no offset; None is the local one.

        Raises:
            QueryError: a key, an operator or a value is wrong; the message names it, its position and what would be
                right.
        """
        from .language import parse

        return parse(texts, now=now, zone=zone)

    @property
    def is_plain(self) -> bool:
        """Whether a backend understands it that knows only :meth:`choices`, ``since`` and ``until``."""
        return not self.conditions and all(getattr(self, name) is None for name in _LATER)

    def choices(self) -> dict[str, OneOf | NoneOf]:
        """The given filters that compare a column with values, for backends that know no others.

        Raises:
            QueryError: there are others, which must not be left out.
        """
        if not self.is_plain:
            raise QueryError(
                "these filters have conditions that this backend does not know: choices() would mean more records;"
                " a backend that knows them uses all_conditions()"
            )
        return {name: choice for name, choice in self._choices().items() if name not in _LATER}

    def all_conditions(self) -> tuple[Condition, ...]:
        """All that must hold, but for ``since`` and ``until``."""
        plain = (
            Condition(
                _KEYS.get(name, name),
                tuple(Equal(value) for value in choice.values),
                negated=isinstance(choice, NoneOf),
            )
            for name, choice in self._choices().items()
        )
        return (*plain, *self.conditions)

    def matches(self, record: ProviderTrace, annotations: Iterable[Annotation] = ()) -> bool:
        """Whether ``record`` is meant; every store finds the same. Free text is looked for where a payload is there.

        ``annotations``: of which those of the record and its trace count.
        """
        from .matching import matches

        return matches(self, record, annotations)

    def _choices(self) -> dict[str, OneOf | NoneOf]:
        values = {field.name: _choice(getattr(self, field.name)) for field in fields(self) if field.name not in _OTHERS}
        return {name: choice for name, choice in values.items() if choice is not None}


def _choice(value: Wanted) -> OneOf | NoneOf | None:
    return OneOf((value,)) if isinstance(value, str) else value
