"""Which SDK versions are supported: those whose base client has what the hooks rely on.

There is no upper bound on the SDKs' versions. The check runs before anything is patched, so an SDK that has changed is
not patched in parts. Untested major versions, and unsupported SDKs, are logged once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from typing import Any, Final

from ..._guard import logger

#: what is patched, and the parameters behind ``self`` that the wrappers rely on
_REQUIRED: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("SyncAPIClient", "request"): ("cast_to", "options"),
    ("AsyncAPIClient", "request"): ("cast_to", "options"),
    ("BaseClient", "_build_request"): ("options",),
    ("SyncAPIClient", "_process_response"): ("response",),
    ("AsyncAPIClient", "_process_response"): ("response",),
    ("Stream", "__stream__"): (),
    ("AsyncStream", "__stream__"): (),
}
_warned: set[str] = set()


def is_supported(package: str, latest_tested_major: int, base_client: Any) -> bool:
    """Whether the SDK can be patched. Logs a warning, once, if it cannot, or if its major version is untested."""
    missing = list(_incompatibilities(base_client))
    version = _version(package)
    major = version.partition(".")[0]
    if missing:
        _warn_once(
            f"llmspan: {package} {version} is not compatible with this llmspan ({', '.join(missing)}). "
            "Its calls work as always, but are not recorded; a newer llmspan may support it."
        )
    elif latest_tested_major and major.isdecimal() and int(major) > latest_tested_major:
        _warn_once(
            f"llmspan: {package} {version} is newer than what this version was tested with (up to"
            f" {latest_tested_major}.x). Its calls are recorded, as everything that llmspan relies on is still there."
        )
    return not missing


def reset_warnings() -> None:
    """Log each warning once more, and read the versions again. For tests."""
    _warned.clear()
    _version.cache_clear()


def _incompatibilities(base_client: Any) -> Iterator[str]:
    for (owner, name), parameters in _REQUIRED.items():
        function = vars(getattr(base_client, owner, object)).get(name)
        if function is None:
            yield f"no {owner}.{name}"
        elif not _accepts(function, parameters):
            yield f"other parameters of {owner}.{name}"


def _accepts(function: Any, names: tuple[str, ...]) -> bool:
    """Whether a function has these parameters, or passes any on (another instrumentation has wrapped it)."""
    parameters = inspect.signature(function).parameters
    any_kind = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return set(names) <= set(parameters) or any(parameter.kind in any_kind for parameter in parameters.values())


@cache
def _version(package: str) -> str:
    """The installed version. It is cached: it is read from a long file, and a program may instrument many times."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        logger.warning("%s", message)
