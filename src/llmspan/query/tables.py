"""Records as rows of typed columns, the same for Arrow, data frames, Parquet and CSV. Pure: records in, values out.

A column has the name of its key, but for times: ``started_at`` is a timestamp in UTC, and durations are seconds, under
names that end in ``_seconds``. What was not reported is null in every column, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from .. import _json
from .._clock import SECOND
from ..cost import EXACT, cost_of
from ..errors import SettingsError
from ..trace import KEYS, KINDS, PAYLOAD_KEYS, ProviderTrace

if TYPE_CHECKING:
    from ..own_prices import OwnPrices

__all__ = ["COLUMNS", "DEFAULT_COLUMNS", "Column", "arrow_batch", "arrow_schema", "check_columns", "row_values"]

#: ``json`` is JSON as text; ``counts`` a map of text to whole numbers
ColumnType = Literal["text", "integer", "boolean", "seconds", "timestamp", "decimal", "list", "map", "counts", "json"]

_INTEGERS: Final = range(-(2**63), 2**63)
#: places behind the point of an amount of money in a table
_PLACES: Final = Decimal("1e-18")
_SECONDS: Final = {"duration_ns": "duration_seconds", "time_to_first_chunk_ns": "time_to_first_chunk_seconds"}
#: columns that are of the record's cost, and the names of its fields
_COST: Final = {
    "cost_amount": "amount",
    "cost_currency": "currency",
    "cost_reason": "reason",
    "cost_version": "version",
}
_TYPES: Final[dict[str, ColumnType]] = {
    "started_at": "timestamp", "usage_details": "counts", "usage_raw": "json", "cost_amount": "decimal",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    type: ColumnType

    @property
    def is_payload(self) -> bool:
        """Whether it can only be read with the payloads."""
        return self.name in PAYLOAD_KEYS


def _columns() -> Iterator[Column]:
    for key in KEYS:
        if key in _SECONDS:
            yield Column(_SECONDS[key], "seconds")
        kind = KINDS[key]
        yield Column(key, _TYPES.get(key, "text" if key in PAYLOAD_KEYS else kind))
    yield Column("model", "text")
    yield from (Column(name, _TYPES.get(name, "text")) for name in _COST)


#: every column that there is, by its name, in the order of the record's keys
COLUMNS: Final[Mapping[str, Column]] = {column.name: column for column in _columns()}
#: those of a table without payloads, unless others are asked for: not the costs, nor times as nanoseconds
DEFAULT_COLUMNS: Final = tuple(
    name for name in COLUMNS if name not in _COST and name not in PAYLOAD_KEYS and name not in _SECONDS
)


def check_columns(names: Sequence[str] | None, *, payload: bool = False) -> tuple[Column, ...]:
    """The columns with these names, or the default ones; with ``payload``, the payloads behind these.

    Raises:
        SettingsError: there is no such column, or one is there twice.
    """
    if names is None:
        return tuple(COLUMNS[name] for name in (*DEFAULT_COLUMNS, *(PAYLOAD_KEYS if payload else ())))
    for at, name in enumerate(names):
        if name not in COLUMNS:
            raise SettingsError(f"no column is called {name!r}; there are {', '.join(COLUMNS)}")
        if name in names[:at]:
            raise SettingsError(f"the column {name!r} is named twice")
    if not names:
        raise SettingsError(f"no column is named; there are {', '.join(COLUMNS)}")
    return tuple(COLUMNS[name] for name in names)


def row_values(record: ProviderTrace, columns: Sequence[Column], own: OwnPrices) -> list[Any]:
    """The values of a record: text, int, bool, float (seconds), Decimal, list or dict; None for null.

    ``started_at`` is in nanoseconds since the epoch. A number that needs more than 64 bits is null.
    """
    values = record.to_dict()
    values |= {name: None if values[key] is None else values[key] / SECOND for key, name in _SECONDS.items()}
    values["model"] = record.response_model or record.request_model
    if any(column.name in _COST for column in columns):
        cost = cost_of(record, own)
        values |= {name: getattr(cost, field) or None for name, field in _COST.items() if name != "cost_amount"}
        values["cost_amount"] = cost.amount
    return [_typed(column.type, values[column.name]) for column in columns]


def _typed(kind: ColumnType, value: Any) -> Any:
    """``value`` as a value of a column of this type."""
    if value is None:
        return None
    if kind == "text":
        return _unicode(value)
    if kind == "integer":
        return value if value in _INTEGERS else None
    if kind == "json":
        return _unicode(_json.dumps(value))
    if kind == "list":
        return [None if item is None else _unicode(str(item)) for item in value]
    if kind == "map":
        return {_unicode(str(key)): _map_text(item) for key, item in value.items()}
    if kind == "counts":
        return {_unicode(str(key)): _typed("integer", item) for key, item in value.items()}
    return value


def _map_text(value: Any) -> str | None:
    """A value of a map: a text as it is, anything else as JSON."""
    return None if value is None else _unicode(value if isinstance(value, str) else _json.dumps(value))


def _unicode(text: str) -> str:
    """``text`` without lone surrogates, which neither Arrow nor a file in UTF-8 can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


# -- Arrow


def arrow_schema(columns: Sequence[Column]) -> Any:
    """The Arrow schema of a table with these columns.

    Raises:
        SettingsError: pyarrow is not installed.
    """
    pa = _pyarrow()
    types = {
        "text": pa.string(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "seconds": pa.float64(),
        "timestamp": pa.timestamp("ns", tz="UTC"),
        "decimal": pa.decimal128(38, 18),
        "list": pa.list_(pa.string()),
        "map": pa.map_(pa.string(), pa.string()),
        "counts": pa.map_(pa.string(), pa.int64()),
        "json": pa.string(),
    }
    return pa.schema([pa.field(column.name, types[column.type]) for column in columns])


def arrow_batch(records: Iterable[ProviderTrace], columns: Sequence[Column], schema: Any, own: OwnPrices) -> Any:
    """The records as one batch of rows."""
    pa = _pyarrow()
    rows = [row_values(record, columns, own) for record in records]
    arrays = [
        pa.array([_arrow_value(column.type, row[at]) for row in rows], schema.field(at).type)
        for at, column in enumerate(columns)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _arrow_value(kind: ColumnType, value: Any) -> Any:
    if value is not None and kind in ("map", "counts"):
        return list(value.items())
    if value is not None and kind == "decimal":
        return value.quantize(_PLACES, context=EXACT)
    return value


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise SettingsError('tables need pyarrow; pip install "llmspan[frame]"') from None
    return pa
