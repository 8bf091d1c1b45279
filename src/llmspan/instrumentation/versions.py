"""Which SDK versions are supported: those that have what a provider's hooks rely on.

There is no upper bound on the SDKs' versions. The check runs before anything is patched, so an SDK that has changed is
not patched in parts. Untested major versions, and unsupported SDKs, are logged once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from typing import Any

from .._log import WarningsOnce

#: what is patched (class and method of one module), and the parameters behind ``self`` that the wrappers rely on
Required = Mapping[tuple[str, str], tuple[str, ...]]

_warnings = WarningsOnce()


def is_supported(package: str, latest_tested_major: int, module: Any, required: Required) -> bool:
    """Whether the SDK can be patched: ``module`` has all that is ``required``.

    Logs a warning, once, if it cannot, or if its major version is untested.
    """
    missing = list(_incompatibilities(module, required))
    version = _version(package)
    major = version.partition(".")[0]
    warning = ""
    if missing:
        warning = (
            f"llmspan: {package} {version} is not compatible with this llmspan ({', '.join(missing)}). "
            "Its calls work as always, but are not recorded; a newer llmspan may support it."
        )
    elif latest_tested_major and major.isdecimal() and int(major) > latest_tested_major:
        warning = (
            f"llmspan: {package} {version} is newer than what this version was tested with (up to"
            f" {latest_tested_major}.x). Its calls are recorded, as everything that llmspan relies on is still there."
        )
    if warning:
        _warnings.warn("%s", warning, key=warning)
    return not missing


def reset_warnings() -> None:
    """Log each warning once more, and read the versions again. For tests."""
    _warnings.reset()
    _version.cache_clear()


def _incompatibilities(module: Any, required: Required) -> Iterator[str]:
    for (owner, name), parameters in required.items():
        function = vars(getattr(module, owner, object)).get(name)
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
