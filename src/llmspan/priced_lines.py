"""Records as JSON lines that also say what the call cost, under the key ``cost``, which is none of a record's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _json
from .cost import cost_of
from .printable import json_printable

if TYPE_CHECKING:
    from .own_prices import OwnPrices
    from .trace import ProviderTrace

__all__ = ["priced_line"]


def priced_line(record: ProviderTrace, own: OwnPrices) -> str:
    """The record's ``to_json_line()`` with its cost as the last key; readers of records ignore it."""
    cost = json_printable(_json.dumps(cost_of(record, own).to_dict()))
    return f'{record.to_json_line()[:-1]},"cost":{cost}}}'
