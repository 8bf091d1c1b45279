"""The arguments of a function call that arrive piece by piece, each under the path that it has in the arguments.

Vertex AI sends them so where the request asks for it: ``partialArgs`` of ``{"jsonPath": "$.recipe.steps[0]",
"stringValue": "..."}``. Strings of the same path are joined.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ..reply import JsonObject, objects

#: ``.name``, ``[0]`` or ``['a name']``
_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]]+)|\[(?P<index>\d{1,6})\]|\[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]"""
)
_VALUES: Final = ("stringValue", "numberValue", "boolValue")
_MAX_STEPS: Final = 64

Step = str | int


class PartialArguments:
    """The arguments of one call, as far as they have arrived."""

    def __init__(self) -> None:
        self.arguments: JsonObject = {}
        #: the container that holds the value of a path, and its key there
        self._locations: dict[str, tuple[Any, Any]] = {}

    def take(self, pieces: object) -> None:
        """Take the ``partialArgs`` of one part."""
        for piece in objects(pieces):
            path = piece.get("jsonPath")
            has_value = "nullValue" in piece or any(key in piece for key in _VALUES)
            if isinstance(path, str) and has_value:
                self._set(path, next((piece[key] for key in _VALUES if key in piece), None))

    def _set(self, path: str, value: Any) -> None:
        location = self._locations.get(path) or _location(self.arguments, path)
        if location is None:
            return
        self._locations[path] = location
        container, key = location
        old = container[key]
        container[key] = old + value if isinstance(old, str) and isinstance(value, str) else value


def _location(arguments: JsonObject, path: str) -> tuple[Any, Any] | None:
    """The container and the key that a path leads to, made as far as they are not there; None for no such path."""
    steps = _steps(path)
    if steps is None:
        return None
    container: Any = arguments
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        key = _key_in(container, step)
        if key is None:
            return None
        if following is None:
            return container, key
        if container[key] is None:
            container[key] = [] if isinstance(following, int) else {}
        container = container[key]
    return None


def _key_in(container: Any, step: Step) -> Step | None:
    """The key for ``step``, which has a value from now on; None if the container cannot have it.

    A list has an item more where the step is behind its end: indices are consecutive.
    """
    if isinstance(container, dict) and isinstance(step, str):
        container.setdefault(step, None)
        return step
    if isinstance(container, list) and isinstance(step, int):
        if step >= len(container):
            step = len(container)
            container.append(None)
        return step
    return None


def _steps(path: str) -> list[Step] | None:
    steps: list[Step] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or len(steps) == _MAX_STEPS:
            return None
        index = match["index"]
        steps.append(int(index) if index is not None else match["name"] or match["quoted"] or "")
        at = match.end()
    return steps if path.startswith("$") and steps and isinstance(steps[0], str) else None
