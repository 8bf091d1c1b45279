"""A real OpenTelemetry Collector for the tests: where it is found, how it runs with our configuration files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Self

from polling import until

CONFIG = Path(__file__).parents[1] / "collector-config"
PORTS = ("grpc", "http", "health", "metrics")


def _cached() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    (version,) = re.findall(r"^  version: (\S+)", (CONFIG / "builder.yaml").read_text(), re.MULTILINE)
    return Path(home) / "llmspan" / f"otelcol-{version}"


@cache
def find() -> Path | None:
    """``LLMSPAN_TEST_OTELCOL``, the one that ``collector-config/build.sh`` made, or ``otelcol-contrib`` in PATH."""
    named = os.environ.get("LLMSPAN_TEST_OTELCOL")
    if named:
        return Path(named).resolve(strict=True)
    if _cached().is_file():
        return _cached()
    installed = shutil.which("otelcol-contrib")
    return Path(installed) if installed else None


@cache
def version() -> str | None:
    """What the Collector says of itself, None if there is none."""
    binary = find()
    if binary is None:
        return None
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()


WHERE = f"LLMSPAN_TEST_OTELCOL, {_cached()} (made by collector-config/build.sh), otelcol-contrib in PATH"


def configs(*names: str | Path) -> list[str]:
    """``base.yaml`` and the named files of collector-config (or other files, given as paths), as options."""
    files = [CONFIG / "base.yaml", *(name if isinstance(name, Path) else CONFIG / f"{name}.yaml" for name in names)]
    return [option for file in files for option in ("--config", str(file))]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nothing listens on right now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Collector:
    """A running Collector, on ports and in a folder of its own. ``file.yaml`` writes into that folder."""

    def __init__(self, folder: Path, *names: str | Path, ports: dict[str, int] | None = None, **env: str) -> None:
        binary = find()
        assert binary is not None
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = ports or dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.log = folder / "collector.log"
        own = {
            "OTELCOL_OTLP_GRPC": f"127.0.0.1:{self.ports['grpc']}",
            "OTELCOL_OTLP_HTTP": f"127.0.0.1:{self.ports['http']}",
            "OTELCOL_HEALTH": f"127.0.0.1:{self.ports['health']}",
            "OTELCOL_METRICS_PORT": str(self.ports["metrics"]),
            "OTELCOL_FILE_DIR": str(folder),
            "OTELCOL_QUEUE_DIR": str(folder / "queue"),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [binary, *configs(*names)], env={**os.environ, **own, **env}, stdout=log, stderr=log, cwd=folder
            )
        self._wait_until_healthy()

    @property
    def grpc(self) -> str:
        """Endpoint for OTLP over gRPC."""
        return f"http://127.0.0.1:{self.ports['grpc']}"

    @property
    def http(self) -> str:
        """Endpoint for OTLP over HTTP."""
        return f"http://127.0.0.1:{self.ports['http']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it in good order: everything it has received is in its outputs afterwards."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) in (0, -signal.SIGKILL), self.log.read_text()[-4000:]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(60)

    def spans(self) -> list[dict[str, Any]]:
        """The spans in the file of ``file.yaml``, each with its ``resource``; attributes as plain dicts."""
        found: list[dict[str, Any]] = []
        for request in self._lines("spans.jsonl"):
            for resource in request.get("resourceSpans", []):
                about = plain(resource["resource"].get("attributes", []))
                for scope in resource.get("scopeSpans", []):
                    found.extend(
                        {**span, "attributes": plain(span.get("attributes", [])), "resource": about}
                        for span in scope["spans"]
                    )
        return found

    def metrics(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Every data point in the file of ``file.yaml``: name, attributes, the point."""
        for request in self._lines("metrics.jsonl"):
            for resource in request.get("resourceMetrics", []):
                for scope in resource.get("scopeMetrics", []):
                    for metric in scope["metrics"]:
                        kind = metric.get("sum") or metric.get("histogram") or metric.get("gauge")
                        for point in kind["dataPoints"]:
                            yield metric["name"], plain(point.get("attributes", [])), point

    def own_metric(self, name: str) -> float:
        """The sum of one of the Collector's own metrics, such as ``otelcol_exporter_queue_size``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['metrics']}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        values = re.findall(rf"^{name}(?:_total|__\w+_total)?(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for value in values)

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        file = self.folder / name
        if file.exists():
            for line in file.read_text().splitlines(keepends=True):
                if line.endswith("\n"):  # the last one may be half written
                    yield json.loads(line)

    def _wait_until_healthy(self) -> None:
        def is_healthy() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['health']}", timeout=1) as reply:
                    return reply.status == 200
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        until(is_healthy, lambda: f"the Collector did not become healthy: {self.log.read_text()[-4000:]}")


def plain(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """OTLP/JSON attributes as a dict of Python values."""
    return {pair["key"]: _value(pair["value"]) for pair in pairs}


def _value(value: dict[str, Any]) -> Any:
    if not value:
        return None
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "doubleValue":
        return float(content)
    if kind == "arrayValue":
        return [_value(item) for item in content.get("values", [])]
    if kind == "kvlistValue":
        return plain(content.get("values", []))
    return content
