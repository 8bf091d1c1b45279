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

from .._clock import DAY
from .._guard import exception_of
from .._version import __version__
from ..backends.base import Backend, SupportsRemove, SupportsRetention
from ..content import ContentPolicy
from ..errors import SchemaError, SettingsError
from ..pipeline.dead_letters import DeadLetters
from ..pipeline.spool.directory import make_root
from ..pipeline.spool.writer import resolve_spool_directory
from ..pipeline.status_file import read_statuses, status_directory
from ..redaction import display_url
from ..settings import TABLE, Settings
from ..trace import ProviderTrace, new_id
from ..usage_notes import find_unasked_streams

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ..pipeline.statistics import BackendStatus

__all__ = ["Finding", "old_sdks", "recordable_sdks", "run_checks"]

Level = Literal["ok", "note", "problem"]
#: the page with a section for each note and each problem
TROUBLESHOOTING: Final = "https://github.com/llmspan/llmspan/blob/main/docs/troubleshooting.md"
Environ = Mapping[str, str]

#: the oldest version of each SDK that the hooks fit, and the first one that makes spans of its own
_OLDEST: Final = {"openai": "1.50", "anthropic": "0.51", "google-genai": "1.32"}
#: those that the local server answers, which trial calls are made to
_TRIED: Final = ("openai", "anthropic", "google-genai")
_TRACES_ITSELF: Final = {"anthropic": "1.14"}
_LENGTH_LIMITS: Final = ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
_COUNT_LIMITS: Final = ("OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")
_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
#: what is written to see whether a directory has room
_PROBE_BYTES: Final = 1 << 20
#: as many as a span of ours can have
_ATTRIBUTES: Final = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``check`` is what was looked at, ``message`` what was found and what would help.

    ``section`` is the heading of docs/troubleshooting.md about it, as its anchor; each note and each problem has one.
    """

    check: str
    level: Level
    message: str
    section: str | None = None

    @property
    def help_url(self) -> str | None:
        """The address of that section."""
        return f"{TROUBLESHOOTING}#{self.section}" if self.section else None


def run_checks(
    settings: Settings,
    backends: Sequence[Backend],
    environ: Environ,
    recorded: Collection[str] = (),
    *,
    writes: bool = True,
) -> Iterator[Finding]:
    """All findings, one by one: a backend may take its time.

    ``recorded``: the old SDKs whose calls are recorded; ``writes``: whether a record is written to each backend.
    """
    yield Finding("llmspan", "ok", f"llmspan {__version__}, Python {sys.version.split()[0]}")
    yield from _settings(environ)
    yield from _sdks(settings, recorded)
    yield from _instrumentors(environ)
    yield from _spans(environ)
    yield from _limits(environ)
    yield _content(settings, backends, environ)
    yield from _redaction(settings)
    yield from _spool(settings)
    yield from _processes(settings)
    for backend in backends:
        yield from _dead_letters(settings, backend)
        yield from _backend(backend, writes=writes)


def _settings(environ: Environ) -> Iterator[Finding]:
    variables = {name for setting in TABLE for name in setting.variables}
    for name in sorted(environ):
        if name.startswith("LLMSPAN_") and not name.startswith("LLMSPAN_TEST_") and name not in variables:
            close = difflib.get_close_matches(name, variables, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; docs/settings.md has them all"
            yield Finding("settings", "problem", f"unknown variable {name}{hint}", "unknown-variable")


def _sdks(settings: Settings, recorded: Collection[str]) -> Iterator[Finding]:
    versions = {name: installed for name in _OLDEST if (installed := _version_of(name)) is not None}
    if not versions:
        message = "none of openai, anthropic and google-genai is installed: there is nothing to record"
        yield Finding("sdks", "problem", message, "no-sdk-is-installed")
    for name, installed in versions.items():
        if _is_before(installed, _OLDEST[name]) and name in recorded:
            message = (
                f"{name} {installed} is older than {_OLDEST[name]}, the oldest that is tested; a trial call is recorded"
            )
            yield Finding("sdks", "note", message, "sdk-older-than-those-tested")
        elif _is_before(installed, _OLDEST[name]):
            message = f"{name} {installed} is too old, its calls are not recorded; install {_OLDEST[name]} or later"
            yield Finding("sdks", "problem", message, "sdk-too-old")
        else:
            yield Finding("sdks", "ok", f"{name} {installed}")
        if name in _TRACES_ITSELF and not _is_before(installed, _TRACES_ITSELF[name]):
            yield _native(name, installed, settings)


def recordable_sdks() -> list[str]:
    """The SDKs that are installed in a version that is tested, of those that trial calls are made with."""
    return [name for name in _TRIED if _version_of(name) is not None and name not in old_sdks()]


def old_sdks() -> list[str]:
    """The SDKs that are installed in an older version; a trial call shows whether it is recorded."""
    return [name for name in _TRIED if (installed := _version_of(name)) and _is_before(installed, _OLDEST[name])]


def _native(name: str, installed: str, settings: Settings) -> Finding:
    if settings.anthropic_native_spans == "both":
        message = f"{name} {installed} makes its own spans; LLMSPAN_ANTHROPIC_NATIVE_SPANS=both keeps them beside ours"
        message += ": every sum over spans counts those calls twice"
        return Finding("sdks", "note", message, "the-anthropic-sdk-keeps-its-own-spans")
    outcomes = {"suppress": "they are suppressed for recorded calls", "adopt": "they are used instead of ours"}
    return Finding(
        "sdks", "ok", f"{name} {installed} makes spans of its own; {outcomes[settings.anthropic_native_spans]}"
    )


def _instrumentors(environ: Environ) -> Iterator[Finding]:
    points = entry_points(group="opentelemetry_instrumentor")
    words = environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    disabled = {word.strip().lower() for word in words}
    own_names = [point.name for point in points if point.value.startswith("llmspan.")]
    off = [name for name in own_names if name in disabled or "*" in disabled]
    if off:
        yield Finding("instrumentors", "problem", f"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS holds {', '.join(off)}: under"
                      " opentelemetry-instrument those calls are not recorded",
                      "instrumentation-is-disabled")  # fmt: skip
    for point in points:
        sdk = next((name for name in _OLDEST if name in point.name.lower().replace("_", "-")), None)
        if (
            sdk is not None
            and point.name not in own_names
            and point.name.lower() not in disabled
            and "*" not in disabled
        ):
            yield Finding("instrumentors", "note", f"{sdk} is also instrumented by {_package(point)}; `calls` says what"
                          " is made of a call beside it (docs/one-span.md)", "another-instrumentation")  # fmt: skip
    if not any(point.value.startswith("llmspan.") for point in points):
        yield Finding("instrumentors", "problem", "llmspan is not installed as a package: opentelemetry-instrument does"
                      " not find it; pip install it", "llmspan-is-not-installed-as-a-package")  # fmt: skip


def _spans(environ: Environ) -> Iterator[Finding]:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        message = "OTEL_SDK_DISABLED=true: no spans are made; records are written all the same"
        yield Finding("spans", "problem", message, "opentelemetry-is-disabled")
        return
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip()
    if sampler and not sampler.endswith("always_on"):
        chosen = " ".join(word for word in (sampler, environ.get("OTEL_TRACES_SAMPLER_ARG")) if word)
        message = f"OTEL_TRACES_SAMPLER={chosen} leaves spans out; records and usage are complete"
        yield Finding("spans", "note", message, "spans-are-sampled")
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
            yield Finding("spans", "problem", missing, "nothing-can-send-spans")
        elif name not in exporter_names and name != "otlp":
            among = ", ".join(sorted(exporter_names))
            message = f"OTEL_TRACES_EXPORTER={name}: unknown exporter; available: {among}"
            yield Finding("spans", "problem", message, "unknown-span-exporter")
        else:
            yield Finding("spans", "ok", f"spans go to {name}{f' ({endpoint})' if name == 'otlp' and endpoint else ''}")


def _limits(environ: Environ) -> Iterator[Finding]:
    for name in _LENGTH_LIMITS:
        if environ.get(name, "").strip():
            yield Finding("limits", "note", f"{name}={environ[name]} cuts texts on spans, such as error messages;"
                          " records are not cut", "texts-on-spans-are-cut")  # fmt: skip
    for name in _COUNT_LIMITS:
        text = environ.get(name, "").strip()
        if text.isdigit() and int(text) < _ATTRIBUTES:
            yield Finding("limits", "problem", f"{name}={text}: a span may lose attributes, usage among them; allow"
                          f" {_ATTRIBUTES}, or unset it", "spans-lose-attributes")  # fmt: skip


def _content(settings: Settings, backends: Sequence[Backend], environ: Environ) -> Finding:
    if settings.capture_payloads == "metadata":
        text = "requests and responses are NOT stored (LLMSPAN_CAPTURE_PAYLOADS=metadata)"
    else:
        without = ["postgres"] if settings.postgres_payload == "metadata" else []
        places = [backend.name for backend in backends if backend.name not in without]
        text = f"requests and responses ARE stored in {', '.join(places) or 'no backend'}"
        text += ", but not in postgres (LLMSPAN_POSTGRES_PAYLOAD=metadata)" if without else ""
    capture = environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip()
    if capture.lower() not in ("", "false", "no_content"):
        name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
        message = f"{text}; {name}={capture} asks for them on spans too, which go to every exporter"
        return Finding("content", "note", message, "content-is-put-on-spans")
    return Finding("content", "ok", f"{text}; they are not put on spans")


def _redaction(settings: Settings) -> Iterator[Finding]:
    """A function that cannot be imported withholds every payload, under ``opentelemetry-instrument`` silently."""
    if settings.redact is None:
        return
    error = exception_of(ContentPolicy.from_settings(settings).redact.check)
    if error is not None:
        message = f"{_one_line(error)}: until then no request and no response is stored"
        yield Finding("redaction", "problem", message, "the-redaction-function-cannot-be-imported")
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
    message = f"{reason}{remedy}. A crash of the program loses what is not stored yet"
    yield Finding("spool", "problem", message, "the-spool-cannot-be-written")


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


def _processes(settings: Settings) -> Iterator[Finding]:
    """What the programs and sidecars that run now say of their backends (``llmspan status``)."""
    directory = status_directory(settings.status_dir)
    for process in read_statuses(directory) if directory is not None else ():
        for backend in process.backends:
            name = f"{process.role} {process.program}".rstrip()
            yield _delivery(f"process {process.pid}", f"{name}, {backend.backend}", backend)


def _delivery(check: str, name: str, backend: BackendStatus) -> Finding:
    counts = {"in the queue": backend.queued, "in the spool": backend.spooled, "dead-lettered": backend.dead_lettered}
    counts |= {f"dropped ({reason})": number for reason, number in backend.dropped.items()}
    others = "".join(f", {number:,} {state}" for state, number in counts.items() if number)
    message = f"{name}: {backend.delivered:,} of {backend.accepted:,} stored{others}"
    if backend.dropped:
        return Finding(check, "problem", f"{message}; {backend.last_error or 'see its log'}", "records-are-dropped")
    if backend.breaker != "closed":
        reason = backend.last_error or "no reason is known"
        return Finding(check, "note", f"{message}; the backend fails: {reason}", "a-backend-fails")
    return Finding(check, "ok", message)


def _dead_letters(settings: Settings, backend: Backend) -> Iterator[Finding]:
    """Records that the backend could never store wait for people, who do not look where they are."""
    path = DeadLetters(settings.dead_letter_dir, backend.name).path
    error = exception_of(path.stat)
    if error is None and path.stat().st_size:
        size = f"{path.stat().st_size:,} bytes"
        message = f"{path} has records that {backend.name} could not store, {size}"
        yield Finding("dead letters", "note", message, "dead-letters")


def _backend(backend: Backend, *, writes: bool) -> Iterator[Finding]:
    began = time.monotonic()
    remarks: list[str] = []
    error = exception_of(lambda: remarks.append(_checked(backend) if writes else backend.check()))
    if error is None and backend.readable and writes:
        error = exception_of(lambda: remarks.append(_probed(backend)))
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    notes: list[str | None] = []
    if error is None and backend.readable:
        exception_of(lambda: notes.append(find_unasked_streams(backend)))
    exception_of(backend.shutdown)
    if error is not None:
        yield Finding(f"backend {backend.name}", "problem", _one_line(error), "a-backend-fails")
    else:
        yield Finding(f"backend {backend.name}", "ok", f"{'; '.join(remarks)}; {took}")
    for note in filter(None, notes):
        yield Finding("usage", "note", f"{backend.name}: {note}", "streams-without-usage")


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
    today = now - now % DAY
    return ProviderTrace(
        id=new_id() if passing else f"llmspan-probe-{today // DAY}",
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
