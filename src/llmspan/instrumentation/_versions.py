"""SDK versions that nobody has seen yet: told of once, and stayed out of if their base client is made otherwise.

There is no upper bound on the SDKs. What the hooks rely on is looked for before anything is patched, so that an SDK
that has changed there is left alone as a whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from typing import Any, Final

from .._guard import logger

#: what is patched, and the parameters behind ``self`` that the wrappers count on
_NEEDED: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("SyncAPIClient", "request"): ("cast_to", "options"),
    ("AsyncAPIClient", "request"): ("cast_to", "options"),
    ("BaseClient", "_build_request"): ("options",),
    ("SyncAPIClient", "_process_response"): ("response",),
    ("AsyncAPIClient", "_process_response"): ("response",),
    ("Stream", "__stream__"): (),
    ("AsyncStream", "__stream__"): (),
}
_told: set[str] = set()


def is_known(package: str, newest: int, base_client: Any) -> bool:
    """Whether the SDK can be hooked. Logs a warning, once, if it cannot or if its major version is newer than known."""
    missing = list(_misfits(base_client))
    version = _version(package)
    if missing:
        _tell(
            f"llmspan: {package} {version} is not built as llmspan knows it ({', '.join(missing)}). "
            "Its calls work as always, but are not recorded; a newer llmspan may know it."
        )
    elif newest and version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) > newest:
        _tell(
            f"llmspan: {package} {version} is newer than what this version was tested with (up to {newest}.x). "
            "Its calls are recorded, as everything that llmspan relies on is still there."
        )
    return not missing


def forget_told() -> None:
    """Warn anew, and look for the versions anew. For tests."""
    _told.clear()
    _version.cache_clear()


def _misfits(base_client: Any) -> Iterator[str]:
    for (owner, name), parameters in _NEEDED.items():
        function = vars(getattr(base_client, owner, object)).get(name)
        if function is None:
            yield f"no {owner}.{name}"
        elif not _takes(function, parameters):
            yield f"other parameters of {owner}.{name}"


def _takes(function: Any, names: tuple[str, ...]) -> bool:
    """Whether a function has these parameters, or hands any on (it was wrapped by somebody else)."""
    parameters = inspect.signature(function).parameters
    any_kind = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return set(names) <= set(parameters) or any(given.kind in any_kind for given in parameters.values())


@cache
def _version(package: str) -> str:
    """The version that is installed; it is read from a long file, and programs may instrument many times."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _tell(line: str) -> None:
    if line not in _told:
        _told.add(line)
        logger.warning("%s", line)
