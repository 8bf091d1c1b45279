"""The keys of a record that filters and groups can name, and the short names of some of them.

Every scalar key of :data:`llmspan.trace.KEYS` is here, the two lists, and what is computed of several keys. A name that
is not here means an attribute, unless it is so close to a key that it must be a misspelt one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from ..annotation import SCORE
from ..errors import QueryError
from ..trace import KINDS, PAYLOAD_KEYS, Content, RecordStatus
from ..usage import UsageSource

__all__ = ["ANNOTATIONS", "ATTRIBUTES", "KEY_OF_NAME", "TEXT", "Key", "KeyKind", "key_of"]

#: What can be asked of a key: ``texts`` are several texts of one record, ``attribute`` is a JSON value, ``annotation``
#: are numbers and texts that were given to the record or its trace, ``content`` is the text of request and response.
KeyKind = Literal["text", "texts", "integer", "duration", "time", "boolean", "attribute", "annotation", "content"]

#: what stands before the name of an attribute
ATTRIBUTES: Final = "attributes."
#: what stands before the name of an annotation
ANNOTATIONS: Final = "annotation."


@dataclass(frozen=True, slots=True)
class Key:
    """A key that can be asked for."""

    name: str
    kind: KeyKind
    aliases: tuple[str, ...] = ()
    #: whether there may be records without a value
    is_optional: bool = True
    #: all values that there are, where that is known
    choices: tuple[str, ...] = ()
    #: what it is, where it is not the record's key of this name
    about: str = ""


_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "trace_id": ("trace",),
    "span_id": ("span",),
    "step_id": ("step",),
    "run_id": ("run",),
    "agent_id": ("agent",),
    "conversation_id": ("conversation",),
    "user_id": ("user",),
    "org_id": ("org",),
    "agent_tags": ("tag", "tags"),
    "service_tier": ("tier",),
    "server_address": ("server",),
    "finish_reasons": ("finish_reason",),
    "error_type": ("error",),
    "started_at": ("started",),
    "duration_ns": ("duration",),
    "time_to_first_chunk_ns": ("time_to_first_chunk", "ttfc"),
    "chunk_count": ("chunks",),
    "input_tokens": ("input",),
    "output_tokens": ("output",),
    "cache_read_tokens": ("cached",),
    "cache_write_tokens": ("cache_written",),
    "reasoning_tokens": ("reasoning",),
}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "status": get_args(RecordStatus),
    "content": get_args(Content),
    "usage_source": get_args(UsageSource),
}
#: keys of which every record has a value
_REQUIRED: Final = frozenset({
    "id", "schema_version", "provider", "operation", "api", "stream", "status", "started_at", "duration_ns",
    "usage_source", "content",
})  # fmt: skip
_OTHER_KINDS: Final[Mapping[str, KeyKind]] = {
    "started_at": "time",
    "duration_ns": "duration",
    "time_to_first_chunk_ns": "duration",
}
_KIND_OF: Final[Mapping[str, KeyKind]] = {"text": "text", "integer": "integer", "boolean": "boolean", "list": "texts"}
_COMPUTED: Final = (
    Key("model", "text", about="`response_model`, or `request_model` where no model came back"),
    Key("tokens", "integer", about="`input_tokens` and `output_tokens` together; none where neither is reported"),
    Key(
        f"{ANNOTATIONS}{SCORE}",
        "annotation",
        (SCORE,),
        about="values that were given to the call or its trace; other names are asked for alike, as `annotation.NAME`",
    ),
)
#: the key of free text
TEXT: Final = Key("text", "content", is_optional=False, about="the text of request and response")


def _keys() -> tuple[Key, ...]:
    scalars = (
        Key(
            name=name,
            kind=_OTHER_KINDS.get(name, _KIND_OF[kind]),
            aliases=_ALIASES.get(name, ()),
            is_optional=name not in _REQUIRED,
            choices=_CHOICES.get(name, ()),
        )
        for name, kind in KINDS.items()
        if kind in _KIND_OF and name not in PAYLOAD_KEYS
    )
    return (*scalars, *_COMPUTED)


#: keys by their names and aliases
KEY_OF_NAME: Final[Mapping[str, Key]] = {name: key for key in _keys() for name in (key.name, *key.aliases)}
#: keys of records that are no scalars
_STRUCTURED: Final = frozenset(name for name, kind in KINDS.items() if kind in ("map", "json")) | set(PAYLOAD_KEYS)
_NAMED: Final = {
    "attributes": " with a name, as in attributes.tenant:acme",
    "annotation": " with a name, as in annotation.helpful:yes",
}
#: names that others may be misspelt from; of the short ones `store` is more probably an attribute
_MISSPELT: Final = (*(name for name in KEY_OF_NAME if name != SCORE), "since", "until")
#: names as short as this are too often close to one another by chance
_SHORTEST_MISSPELT: Final = 4
#: names as long as this may have two wrong letters
_LONG: Final = 10


def key_of(name: str) -> Key:
    """The key that ``name`` means: one of the table, by its name or alias, or an attribute.

    A name that differs from one in the table by one letter (two from ten letters on), or by upper case, is an error:
    it is misspelt more probably than meant as an attribute, which can always be written ``attributes.NAME``.

    Raises:
        QueryError: it is misspelt, or the key has no value that could be compared.
    """
    key = KEY_OF_NAME.get(name)
    if key is not None:
        return key
    if name.startswith(ATTRIBUTES) and len(name) > len(ATTRIBUTES):
        return Key(name, "attribute")
    if name.startswith(ANNOTATIONS) and len(name) > len(ANNOTATIONS):
        return Key(name, "annotation")
    if name in _STRUCTURED or name in (ATTRIBUTES[:-1], ANNOTATIONS[:-1]):
        hint = _NAMED.get(name.rstrip("."), "")
        raise QueryError(f"{name} is no single value{hint or '; the keys are ' + ', '.join(_names())}")
    near = [key_name for key_name in _MISSPELT if _is_misspelt(name, key_name)]
    if near:
        raise QueryError(
            f"{name} is not a key; did you mean {' or '.join(near)}? An attribute of this name is {ATTRIBUTES}{name};"
            f" the keys are {', '.join(_names())}"
        )
    return Key(ATTRIBUTES + name, "attribute")


def _names() -> Iterable[str]:
    return (*dict.fromkeys(key.name for key in KEY_OF_NAME.values()), "since", "until")


def _is_misspelt(name: str, key_name: str) -> bool:
    if len(key_name) < _SHORTEST_MISSPELT or abs(len(name) - len(key_name)) > 2:
        return False
    return _distance(name.lower(), key_name) <= (2 if len(key_name) >= _LONG else 1)


def _distance(first: str, second: str) -> int:
    """How many letters must be inserted, deleted, replaced or swapped with their neighbour (optimal alignment)."""
    above: list[int] = []
    row = list(range(len(second) + 1))
    for at, letter in enumerate(first, 1):
        before, above, row = above, row, [at]
        for column, other in enumerate(second, 1):
            cost = min(above[column] + 1, row[column - 1] + 1, above[column - 1] + (letter != other))
            if at > 1 and column > 1 and letter == second[column - 2] and first[at - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            row.append(cost)
    return row[-1]
