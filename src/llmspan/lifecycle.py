"""Set-up: settings, backends, pipeline, observer, providers. One of each per process.

``instrument`` is what programs call; ``opentelemetry-instrument`` comes in by :func:`instrument_provider` (once per
SDK) and :func:`post_instrument`. Whichever way, and however often: each call is recorded once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any, Protocol, Unpack

from opentelemetry import _logs, trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from . import _guard, otlp, pipeline, self_metrics, semconv
from ._guard import guarded
from ._identity_set import IdentitySet
from ._version import __version__
from .backends import load_backends, open_backend
from .content import ContentPolicy
from .errors import LlmspanError, SettingsError, shorten_traceback
from .estimate import Estimator
from .instrumentation import ContentCapture, Observer, finish_open_calls
from .metrics import CallMetrics
from .pipeline import BackendStatus, shutdown_hooks
from .pipeline import metrics as pipeline_metrics
from .pipeline.status_file import status_directory
from .printable import printable
from .settings import DynamicSetting, Settings
from .settings_arguments import SettingsArguments
from .span_processor import attach_processor, configure_spans

__all__ = ["flush", "instrument", "instrument_provider", "post_instrument", "shutdown", "status", "uninstrument"]


class Hooks(Protocol):
    """What a provider's ``instrument`` returns."""

    def remove(self) -> None:
        """Put every patched attribute back."""
        ...


@dataclass
class _State:
    settings: Settings | None = None
    observer: Observer | None = None
    hooks: dict[str, Hooks] = field(default_factory=dict[str, Hooks])
    #: the observer that each of them reports to
    observers: dict[str, Observer] = field(default_factory=dict[str, Observer])
    printed: set[str] = field(default_factory=set[str])
    is_registered: bool = False
    has_ended: bool = False
    #: the last settings that were in force, which hold at exit also if the program has called :func:`shutdown`
    exit_settings: Settings | None = None
    #: the meter providers, beside the first one, that have the instruments about llmspan itself
    metered: IdentitySet = field(default_factory=IdentitySet)


_state = _State()
_lock = threading.RLock()


@shorten_traceback
def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    providers: tuple[str, ...] | None = None,
    **settings: Unpack[SettingsArguments],
) -> None:
    """Record the calls of the provider SDKs from now on. Imports no SDK.

    Called again, it opens nothing anew, but providers that are given take effect. After :func:`uninstrument`, those
    that are not given are the global ones again.

    Args:
        tracer_provider: where spans go; the global one by default. Without any, records are written all the same.
        logger_provider: where events with content go, if they are asked for; the global one by default.
        meter_provider: where metrics go; the global one by default. Without any, none are recorded.
        providers: SDKs to instrument, by entry-point name; all known ones by default.
        settings: any field of :class:`llmspan.settings.Settings`; they win over ``LLMSPAN_*`` variables.

    Raises:
        SettingsError: a setting cannot be read, names a local file that cannot be used, or other settings are in
            force already. A store elsewhere that is down or refuses us is no error: it is tried again.
    """
    with _lock:
        settings_from_env = Settings.from_env(**settings)
        ContentPolicy.from_settings(settings_from_env).redact.check()
        estimator = _estimator(settings_from_env)
        if estimator is not None:
            estimator.check()
        _set_up(tracer_provider, dict(settings), logger_provider, meter_provider)
        for name in providers if providers is not None else _provider_names():
            _instrument(name)


def uninstrument() -> None:
    """Put every patched attribute back. Calls under way are still recorded; backends stay open until exit."""
    with _lock:
        for name in list(_state.hooks):
            _state.observers.pop(name, None)
            _state.hooks.pop(name).remove()


def flush(timeout: float = 5.0) -> bool:
    """Wait until all calls that have ended are written; False if ``timeout`` seconds were not enough."""
    return pipeline.shared().flush(timeout)


def status() -> list[BackendStatus]:
    """Delivery statistics per backend."""
    return pipeline.shared().status()


def shutdown(timeout: float = 5.0) -> bool:
    """Undo :func:`instrument`: put attributes back, end open calls, write what is queued, close the backends.

    Returns False if ``timeout`` seconds were not enough to write all. Again, it does nothing; :func:`instrument` then
    sets everything up anew, also with other settings.
    """
    with _lock:
        uninstrument()
        observer, _state.observer, _state.settings = _state.observer, None, None
        pipeline.shared().policy = pipeline.shared().source = None
    if observer is not None:
        finish_open_calls(observer)
    is_complete = pipeline.shared().close(timeout)
    pipeline.shared().span_selector = None
    return is_complete


close = shutdown


def instrument_provider(
    name: str,
    *,
    tracer_provider: TracerProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Instrument one SDK under ``opentelemetry-instrument``: a wrong setting is printed once, the program runs on."""
    with _lock:
        try:
            _set_up(tracer_provider, {}, logger_provider, meter_provider)
            _instrument(name)
        except LlmspanError as error:
            print_config_error_once(error)


def is_instrumented(name: str) -> bool:
    """Whether the calls of one SDK are recorded, or will be once it is imported."""
    return name in _state.hooks


def uninstrument_provider(name: str) -> None:
    """Put one SDK's attributes back."""
    with _lock:
        _state.observers.pop(name, None)
        hooks = _state.hooks.pop(name, None)
    if hooks is not None:
        hooks.remove()


def post_instrument() -> None:
    """Entry point ``opentelemetry_post_instrument``: by now the tracer provider is there, and so is its resource."""
    with _lock:
        try:
            _set_up(None, {})
        except LlmspanError as error:
            print_config_error_once(error)


def print_config_error_once(error: Exception) -> None:
    """One line on stderr for a problem of configuration, however many parts of us meet it."""
    if str(error) not in _state.printed:
        _state.printed.add(str(error))
        _print(f"llmspan: {error}. Calls are not recorded.")


def _set_up(
    tracer_provider: TracerProvider | None,
    settings_given: dict[str, Any],
    logger_provider: LoggerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    if _state.observer is not None:
        if settings_given and Settings.from_env(**settings_given) != _state.settings:
            raise SettingsError("llmspan is set up already; its settings are given once per process")
        given_providers = tracer_provider, logger_provider, meter_provider
        if not _state.hooks or any(provider is not None for provider in given_providers):
            _state.observer = _with_providers(_state.observer, *given_providers)
        is_named = _state.settings is not None and _state.settings.service_name is not None
        if not is_named and _state.observer.source in (None, _service_variable()):  # no resource at the first call
            _state.observer.source = _service_name(tracer_provider) or _state.observer.source
        pipeline.shared().source = _state.observer.source
        if _state.settings is not None:
            attach_processor(tracer_provider, _state.settings)
        return
    settings = Settings.from_env(**settings_given)
    policy = ContentPolicy.from_settings(settings)
    _open_backends(settings)
    pipeline.shared().policy = policy
    configure_spans(settings, policy)
    _state.settings = _state.exit_settings = settings
    warning = otlp.oversize_warning(settings)
    if warning is not None:
        _guard.logger.warning("llmspan: %s", warning)
    tracer = trace.get_tracer(semconv.SCOPE, __version__, tracer_provider, schema_url=semconv.SCHEMA_URL)
    _state.observer = Observer(
        sink=pipeline.shared(),
        tracer=tracer,
        policy=policy,
        source=settings.service_name or _service_name(tracer_provider) or _service_variable(),
        baggage_keys=settings.baggage_keys,
        include_usage=settings.include_usage,
        anthropic_native_spans=settings.anthropic_native_spans,
        request_metadata=settings.request_metadata,
        estimator=_estimator(settings),
        capture=_capture(settings, policy, settings_given),
        logger=_logs.get_logger(semconv.SCOPE, __version__, logger_provider, schema_url=semconv.SCHEMA_URL),
        compat=settings.semconv_compat,
        metrics=CallMetrics(meter_provider, compat=settings.semconv_compat),
        times_all_chunks=settings.chunk_metrics,
    )
    pipeline.shared().source = _state.observer.source
    attach_processor(tracer_provider, settings)
    if not _state.is_registered:
        shutdown_hooks.register_exit_hook(_at_exit, _flush_before_exit)
    _register_own_metrics(meter_provider)


def _with_providers(
    observer: Observer,
    tracer_provider: TracerProvider | None,
    logger_provider: LoggerProvider | None,
    meter_provider: MeterProvider | None,
) -> Observer:
    """An observer that reports to other providers; calls under way stay with theirs.

    A provider that is not given stays as it is while an SDK is instrumented, and is the global one otherwise.
    """
    is_fresh = not _state.hooks
    changed = replace(observer)
    if tracer_provider is not None or is_fresh:
        changed.tracer = trace.get_tracer(semconv.SCOPE, __version__, tracer_provider, schema_url=semconv.SCHEMA_URL)
    if logger_provider is not None or is_fresh:
        changed.logger = _logs.get_logger(semconv.SCOPE, __version__, logger_provider, schema_url=semconv.SCHEMA_URL)
    if meter_provider is not None or is_fresh:
        changed.metrics = CallMetrics(meter_provider, compat=observer.compat)
    _register_own_metrics(meter_provider)
    return changed


def _register_own_metrics(meter_provider: MeterProvider | None) -> None:
    """Offer the instruments about llmspan itself, once to each provider; the first may be the global one."""
    if _state.is_registered and (meter_provider is None or meter_provider in _state.metered):
        return
    _state.is_registered = True
    if meter_provider is not None:
        _state.metered.add(meter_provider)
    guarded("metrics.register", self_metrics.register, meter_provider)
    guarded("metrics.register", pipeline_metrics.register, pipeline.shared, meter_provider)


def _estimator(settings: Settings) -> Estimator | None:
    chosen = settings.estimate_usage
    return None if chosen == "off" else Estimator(None if chosen == "on" else chosen)


def _capture(settings: Settings, policy: ContentPolicy, arguments: Mapping[str, Any]) -> ContentCapture:
    """Where content goes: as ``arguments`` say, else as the variable says, whenever it says so."""
    name = "otel_instrumentation_genai_capture_message_content"
    mode = getattr(settings, name)
    return ContentCapture.from_mode(
        mode if arguments.get(name) is not None else DynamicSetting(name, mode), policy, settings.span_content_format
    )


def _open_backends(settings: Settings) -> None:
    """Add the named backends; the default one only if no exporter has named a place of its own."""
    shared = pipeline.shared()
    shared.configure(settings)
    shared.status_file.set_directory(status_directory(settings.status_dir))
    exporter_backends = shared.backends  # by exporters; they are opened here, where an error can be reported
    added_backends = [] if exporter_backends and not settings.backends else load_backends(settings)
    opened = [(backend, open_backend(backend)) for backend in (*exporter_backends, *added_backends)]
    for backend in added_backends:
        if not shared.add(backend):
            backend.shutdown()  # an exporter has named the same place
    for backend, error in opened:
        if error is not None:
            shared.report_failure(backend, error)


def _instrument(name: str) -> None:
    observer = _state.observer
    if observer is None or _state.observers.get(name) is observer:
        return
    provider = _provider(name)
    if name in _state.hooks:
        _state.hooks.pop(name).remove()
    _state.hooks[name] = provider.instrument(observer)
    _state.observers[name] = observer


def _provider_names() -> list[str]:
    return sorted(entry.name for entry in entry_points(group="llmspan.providers"))


def _provider(name: str) -> Any:
    for entry in entry_points(group="llmspan.providers", name=name):
        return entry.load()
    raise SettingsError(f"unknown provider {name!r}; available: {', '.join(_provider_names())}")


def _service_name(tracer_provider: TracerProvider | None) -> str | None:
    """``service.name`` of the tracer provider's resource, if it was given one."""
    resource = getattr(tracer_provider or trace.get_tracer_provider(), "resource", None)
    name = resource.attributes.get("service.name") if resource is not None else None
    return name if isinstance(name, str) and not name.startswith("unknown_service") else None


def _service_variable() -> str | None:
    """The name in the standard variable, which no resource has where nobody sets up OpenTelemetry's SDK."""
    return os.environ.get("OTEL_SERVICE_NAME", "").strip() or None


def _at_exit() -> None:
    settings = _state.exit_settings
    if settings is None or _state.has_ended:
        return
    _state.has_ended = True  # a process may have several ends: Celery's, uvicorn's, then Python's
    if _state.observer is not None:
        finish_open_calls(_state.observer)
    shared = pipeline.shared()
    shared.close(settings.exit_timeout)
    if settings.summary and shared.totals.calls:
        _print(shared.totals.format(shared.status(), settings.spool_dir))


def _flush_before_exit() -> None:
    if _state.exit_settings is not None and not _state.has_ended:
        pipeline.shared().flush(_state.exit_settings.exit_timeout)


def _print(text: str) -> None:
    """Write one line to standard error as a whole: lines of other threads and processes go before or after it."""
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is None where it was closed
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{printable(text)}\n")
            sys.stderr.flush()
