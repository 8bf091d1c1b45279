"""The redaction that a program asks for: patterns by name, then its own function.

Pure but for importing that function. Works on JSON values and on JSON text: strings and the names of members are
looked at, wherever they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from .. import _json
from ..errors import SettingsError
from .cards import is_card
from .json_text import mask_json_text
from .patterns import FINDERS, MASK, mask_matches
from .values import map_json


class RedactionError(Exception):
    """Redaction did not succeed, so what was to be redacted must not go anywhere."""


@dataclass(slots=True)
class Redactor:
    """The patterns that are on, then the program's own function; false if there is neither.

    ``function`` is called with a JSON value (a whole request or response, an error's body or message, an attribute
    map) and returns what may be kept of it. It may change its argument. It runs on llmspan's worker and, for the few
    values that go on spans, on the thread that ends the span. A text ``module:function`` is imported at its first use.
    """

    patterns: tuple[str, ...] = ()
    function: Callable[[Any], Any] | str | None = None

    def __bool__(self) -> bool:
        return bool(self.patterns) or self.function is not None

    def check(self) -> None:
        """Find the function now instead of at its first use.

        Raises:
            SettingsError: there is none of that name.
        """
        if isinstance(self.function, str):
            self.function = _find(self.function)

    def __call__(self, value: Any) -> Any:
        """What may be kept of ``value``.

        Raises:
            RedactionError: nothing; says what went wrong, and not with which value.
        """
        if self.patterns:
            mask = self._mask()
            value = map_json(value, leaf=partial(self._leaf, mask), name=mask)
        return value if self.function is None else self._apply_function(value)

    def on_text(self, text: str) -> str:
        """What may be kept of JSON ``text``; itself where nothing is to be masked.

        Raises:
            RedactionError: nothing may be kept; says why, and not of which value.
        """
        if self.patterns:
            text = mask_json_text(text, self._mask(), cards="cards" in self.patterns)
        if self.function is None:
            return text
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise RedactionError("the payload is nested too deep to be given to the redaction function") from None
        original_text = json.dumps(value)
        redacted_value = self._apply_function(value)
        redacted_text = _json.dumps(redacted_value)
        return text if json.dumps(json.loads(redacted_text)) == original_text else redacted_text

    def _mask(self) -> Callable[[str], str]:
        return partial(mask_matches, tuple(finder for name in self.patterns for finder in FINDERS[name]))

    def _leaf(self, mask: Callable[[str], str], item: Any, *_: Any) -> Any:
        if isinstance(item, str):
            return mask(item)
        if "cards" in self.patterns and isinstance(item, int | float) and is_card(str(item).removesuffix(".0")):
            return MASK
        return item

    def _apply_function(self, value: Any) -> Any:
        self.check()
        function = self.function
        redacted_value = function(value) if callable(function) else None
        if redacted_value is None and value is not None:
            raise RedactionError("the redaction function returned None: it has to return what may be kept")
        return redacted_value


def _find(name: str) -> Callable[[Any], Any]:
    module, _, path = name.partition(":")
    try:
        function: Any = import_module(module)
        for part in path.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"LLMSPAN_REDACT={name}: {error}; name a function that can be imported") from error
    if not callable(function):
        raise SettingsError(f"LLMSPAN_REDACT={name}: that is {type(function).__name__}, not a function")
    return function
