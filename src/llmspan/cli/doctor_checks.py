"""What ``llmspan doctor`` looks at: each check is a function that gives findings, and changes nothing that it can undo.

Tables that a program makes by itself at its start are made. A *problem* is what makes calls go unrecorded or spans go
missing; a *note* is what may surprise.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from .._guard import exception_of
from .._version import __version__
from ..backends.base import Backend, SupportsRemove, SupportsRetention
from ..content import Policy
from ..errors import SchemaError, SettingsError
from ..pipeline.spool.directory import make_root
from ..pipeline.spool.writer import resolve_spool_directory
from ..redaction import display_url
from ..settings import TABLE, Settings
from ..trace import ProviderTrace, new_id
from .usage_notes import find_unasked_streams

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Finding", "old_sdks", "recordable_sdks", "run_checks"]

Level = Literal["ok", "note", "problem"]
Environ = Mapping[str, str]

#: the oldest version of each SDK that the hooks fit, and the first one that makes spans of its own
_OLDEST: Final = {"openai": "1.50", "anthropic": "0.51"}
_TRACES_ITSELF: Final = {"anthropic": "1.14"}
_LENGTH_LIMITS: Final = ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
_COUNT_LIMITS: Final = ("OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")
_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_DAY: Final = 86_400 * 1_000_000_000
#: what is written to see whether a directory has room
_PROBE_BYTES: Final = 1 << 20
#: as many as a span of ours can have
_ATTRIBUTES: Final = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``check`` is what was looked at, ``message`` what was found and what would help."""

    check: str
    level: Level
    message: str


def run_checks(
    settings: Settings, backends: Sequence[Backend], environ: Environ, recorded: Collection[str] = ()
) -> Iterator[Finding]:
    """All findings, one by one: a backend may take its time. ``recorded``: the old SDKs whose calls are recorded."""
    yield Finding("llmspan", "ok", f"llmspan {__version__}, Python {sys.version.split()[0]}")
    yield from _settings(environ)
    yield from _sdks(settings, recorded)
    yield from _instrumentors(environ)
    yield from _spans(environ)
    yield from _limits(environ)
    yield _content(settings, backends, environ)
    yield from _redaction(settings)
    yield from _spool(settings)
    for backend in backends:
        yield from _backend(backend)


def _settings(environ: Environ) -> Iterator[Finding]:
    variables = {name for setting in TABLE for name in (setting.env, *setting.aliases)}
    for name in sorted(environ):
        if name.startswith("LLMSPAN_") and not name.startswith("LLMSPAN_TEST_") and name not in variables:
            close = difflib.get_close_matches(name, variables, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; docs/settings.md has them all"
            yield Finding("settings", "problem", f"{name} is no setting{hint}")


def _sdks(settings: Settings, recorded: Collection[str]) -> Iterator[Finding]:
    versions = {name: installed for name in _OLDEST if (installed := _version_of(name)) is not None}
    if not versions:
        yield Finding("sdks", "problem", "neither openai nor anthropic is installed: there is nothing to record")
    for name, installed in versions.items():
        if _is_before(installed, _OLDEST[name]) and name in recorded:
            message = (
                f"{name} {installed} is older than {_OLDEST[name]}, the oldest that is tested; a trial call is recorded"
            )
            yield Finding("sdks", "note", message)
        elif _is_before(installed, _OLDEST[name]):
            message = f"{name} {installed} is too old, its calls are not recorded; install {_OLDEST[name]} or later"
            yield Finding("sdks", "problem", message)
        else:
            yield Finding("sdks", "ok", f"{name} {installed}")
        if name in _TRACES_ITSELF and not _is_before(installed, _TRACES_ITSELF[name]):
            yield _native(name, installed, settings)


def recordable_sdks() -> list[str]:
    """The SDKs that are installed in a version that is tested."""
    return [name for name in _OLDEST if _version_of(name) is not None and name not in old_sdks()]


def old_sdks() -> list[str]:
    """The SDKs that are installed in an older version; a trial call shows whether it is recorded."""
    return [
        name for name, oldest in _OLDEST.items() if (installed := _version_of(name)) and _is_before(installed, oldest)
    ]


def _native(name: str, installed: str, settings: Settings) -> Finding:
    if settings.anthropic_native == "both":
        return Finding("sdks", "note", f"{name} {installed} makes its own spans; LLMSPAN_ANTHROPIC_NATIVE=both keeps"
                       " them beside ours: every sum over spans counts those calls twice")  # fmt: skip
    outcomes = {"suppress": "they are held back for recorded calls", "adopt": "they are used instead of ours"}
    return Finding("sdks", "ok", f"{name} {installed} makes spans of its own; {outcomes[settings.anthropic_native]}")


def _instrumentors(environ: Environ) -> Iterator[Finding]:
    points = entry_points(group="opentelemetry_instrumentor")
    words = environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    disabled = {word.strip().lower() for word in words}
    own_names = [point.name for point in points if point.value.startswith("llmspan.")]
    off = [name for name in own_names if name in disabled or "*" in disabled]
    if off:
        yield Finding("instrumentors", "problem", f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS holds {', '.join(off)}: under"
                      " opentelemetry-instrument those calls are not recorded")  # fmt: skip
    for point in points:
        sdk = next((name for name in _OLDEST if name in point.name.lower()), None)
        if (
            sdk is not None
            and point.name not in own_names
            and point.name.lower() not in disabled
            and "*" not in disabled
        ):
            yield Finding("instrumentors", "note", f"{sdk} is also instrumented by {_package(point)}; `calls` says what"
                          " is made of a call beside it (docs/one-span.md)")  # fmt: skip
    if not any(point.value.startswith("llmspan.") for point in points):
        yield Finding("instrumentors", "problem", "llmspan is not installed as a package: opentelemetry-instrument does"
                      " not find it; pip install it")  # fmt: skip


def _spans(environ: Environ) -> Iterator[Finding]:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding("spans", "problem", "OTEL_SDK_DISABLED=true: no spans are made; records are written all the same")
        return
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip()
    if sampler and not sampler.endswith("always_on"):
        chosen = " ".join(word for word in (sampler, environ.get("OTEL_TRACES_SAMPLER_ARG")) if word)
        yield Finding("spans", "note", f"OTEL_TRACES_SAMPLER={chosen} leaves spans out; records and usage are complete")
    exporters = [name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()]
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = display_url(endpoint) if endpoint else None
    if exporters == ["none"] or (not exporters and not endpoint):
        why = "OTEL_TRACES_EXPORTER=none" if exporters else "no OTEL_EXPORTER_OTLP_ENDPOINT is set"
        yield Finding("spans", "ok", f"spans go nowhere by themselves ({why}); records do not need them")
        return
    exporter_names = {point.name for point in entry_points(group="opentelemetry_traces_exporter")}
    for name in exporters or ["otlp"]:
        if name == "otlp" and not any(exporter.startswith("otlp") for exporter in exporter_names):
            missing = f'spans are to go to {endpoint or "OTLP"}, but nothing can send them; pip install "llmspan[otlp]"'
            yield Finding("spans", "problem", missing)
        elif name not in exporter_names and name != "otlp":
            among = ", ".join(sorted(exporter_names))
            yield Finding("spans", "problem", f"OTEL_TRACES_EXPORTER={name}: no such exporter; there are {among}")
        else:
            yield Finding("spans", "ok", f"spans go to {name}{f' ({endpoint})' if name == 'otlp' and endpoint else ''}")


def _limits(environ: Environ) -> Iterator[Finding]:
    for name in _LENGTH_LIMITS:
        if environ.get(name, "").strip():
            yield Finding("limits", "note", f"{name}={environ[name]} cuts texts on spans, such as error messages;"
                          " records are not cut")  # fmt: skip
    for name in _COUNT_LIMITS:
        text = environ.get(name, "").strip()
        if text.isdigit() and int(text) < _ATTRIBUTES:
            yield Finding("limits", "problem", f"{name}={text}: a span may lose attributes, usage among them; allow"
                          f" {_ATTRIBUTES}, or unset it")  # fmt: skip


def _content(settings: Settings, backends: Sequence[Backend], environ: Environ) -> Finding:
    if settings.content == "metadata":
        text = "requests and responses are NOT stored (LLMSPAN_CONTENT=metadata)"
    else:
        without = ["postgres"] if settings.postgres_payload == "metadata" else []
        places = [backend.name for backend in backends if backend.name not in without]
        text = f"requests and responses ARE stored in {', '.join(places) or 'no backend'}"
        text += ", but not in postgres (LLMSPAN_POSTGRES_PAYLOAD=metadata)" if without else ""
    capture = environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip()
    if capture.lower() not in ("", "false", "no_content"):
        name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
        return Finding(
            "content", "note", f"{text}; {name}={capture} asks for them on spans too, which go to every exporter"
        )
    return Finding("content", "ok", f"{text}; they are not put on spans")


def _redaction(settings: Settings) -> Iterator[Finding]:
    """A function that cannot be imported withholds every payload, under ``opentelemetry-instrument`` silently."""
    if settings.redact is None:
        return
    error = exception_of(Policy.from_settings(settings).redact.check)
    if error is not None:
        message = f"{_one_line(error)}: until then no request and no response is stored"
        yield Finding("redaction", "problem", message)
    else:
        yield Finding("redaction", "ok", "the function of LLMSPAN_REDACT can be imported")


def _spool(settings: Settings) -> Iterator[Finding]:
    """A spool that cannot be written protects nothing: records wait in memory, and a crash loses them."""
    if settings.spool_dir is None:
        return
    error = exception_of(lambda: _write_probe(resolve_spool_directory(settings.spool_dir or Path())))
    if error is None:
        yield Finding("spool", "ok", f"{settings.spool_dir} can be written")
        return
    is_settings_error = isinstance(error, SettingsError)
    reason = (
        _one_line(error) if is_settings_error else f"LLMSPAN_SPOOL_DIR={settings.spool_dir}: {_system_error(error)}"
    )
    remedy = "" if is_settings_error else "; give it room, or set it to a directory that this user may write to"
    yield Finding("spool", "problem", f"{reason}{remedy}. A crash of the program loses what is not stored yet")


def _write_probe(directory: Path) -> None:
    """Write as much as a large record takes below ``directory``, and leave everything as it was."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        make_root(directory)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    finally:
        for path in missing:
            exception_of(path.rmdir)


def _system_error(error: BaseException) -> str:
    return getattr(error, "strerror", None) or _one_line(error)


def _backend(backend: Backend) -> Iterator[Finding]:
    began = time.monotonic()
    remarks: list[str] = []
    error = exception_of(lambda: remarks.append(_checked(backend)))
    if error is None and backend.readable:
        error = exception_of(lambda: remarks.append(_probed(backend)))
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    notes: list[str | None] = []
    if error is None and backend.readable:
        exception_of(lambda: notes.append(find_unasked_streams(backend)))
    exception_of(backend.shutdown)
    if error is not None:
        yield Finding(f"backend {backend.name}", "problem", _one_line(error))
    else:
        yield Finding(f"backend {backend.name}", "ok", f"{'; '.join(remarks)}; {took}")
    yield from (Finding("usage", "note", f"{backend.name}: {note}") for note in notes if note)


def _checked(backend: Backend) -> str:
    """What answers. Tables that a program would make or update by itself are made or updated, as it does."""
    try:
        return backend.check()
    except SchemaError:
        backend.open()  # raises, if they are not ours, or are left to `llmspan migrate`
    return f"{backend.check()}; the tables were not there or old, and have been set up, as a program does at start"


def _probed(backend: Backend) -> str:
    """Write a record, read it back, and take it out again where that is possible; what was done.

    A program's write may also delete old records. A look does not: the age may be what is wrong.
    """
    if isinstance(backend, SupportsRetention):
        backend.suspend_retention()
    probe = _probe(passing=isinstance(backend, SupportsRemove))
    backend.open()
    backend.write([probe])
    stored_probe = backend.get(probe.id)
    is_removed = isinstance(backend, SupportsRemove) and exception_of(backend.remove, [probe.id]) is None
    if stored_probe is None:
        raise LookupError("a record was written without an error, but is not there")
    if stored_probe.started_at != probe.started_at:
        raise LookupError("a record that was written is read back with other values")
    stays = "" if is_removed else f" (it stays: {probe.id}, provider llmspan, operation probe)"
    return f"wrote a record and read it back{stays}"


def _probe(*, passing: bool) -> ProviderTrace:
    """A record that cannot be taken for a call. One that may have to stay is the same all day: there is one a day."""
    now = time.time_ns()
    today = now - now % _DAY
    return ProviderTrace(
        id=new_id() if passing else f"llmspan-probe-{today // _DAY}",
        provider="llmspan", operation="probe", api="doctor", status="ok", source="llmspan doctor", call_type="probe",
        started_at=now if passing else today, duration_ns=0, request_json='{"probe":true}', content="full",
    )  # fmt: skip


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_before(installed: str, other: str) -> bool:
    return _numbers(installed) < _numbers(other)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)[:2]]
