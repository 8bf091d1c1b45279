"""The files of collector-config/: the Collector takes each of them, and they keep their own rules."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from typing import Any

import pytest
import yaml

import otelcol

STAGES = ("redaction", "metrics-from-spans", "tail-sampling")
OUTPUTS = ("file", "clickhouse", "forward", "agent", "kafka-agent")
RECEIVERS = ("gateway", "kafka-gateway")
FILES = ("base", *STAGES, *OUTPUTS, *RECEIVERS)
#: what the head comments call required
REQUIRED = {
    "FORWARD_ENDPOINT": "http://127.0.0.1:4318",
    "GATEWAY_HOSTS": "[127.0.0.1:4317, 127.0.0.1:14317]",
    "GATEWAY_TLS_CERT_FILE": "server.pem",
    "GATEWAY_TLS_KEY_FILE": "server.key",
    "OTELCOL_TOKEN": "planted",
}


def validate(*names: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(otelcol.find()), "validate", *otelcol.configs(*names)]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def documented() -> list[tuple[str, ...]]:
    """Every combination that a head comment or the README gives, without base."""
    found: set[tuple[str, ...]] = set()
    for page in otelcol.CONFIG.iterdir():
        if page.suffix not in (".yaml", ".md"):
            continue
        text = re.sub(r"\s*\\\n(# *)?\s*", " ", page.read_text())
        for command in re.findall(r"otelcol-contrib((?: --config \S+\.yaml)+)", text):
            names = re.findall(r"--config (?:/etc/otelcol-contrib/)?(\S+)\.yaml", command)
            assert names[0] == "base", (page, names)
            found.add(tuple(names[1:]))
    return sorted(found)


def combinations() -> list[tuple[str, ...]]:
    stages = [chosen for n in range(len(STAGES) + 1) for chosen in itertools.combinations(STAGES, n)]
    return sorted({(*chosen, output) for chosen in stages for output in OUTPUTS} | {("file", "clickhouse", "forward")})


@pytest.mark.collector
@pytest.mark.parametrize("names", [(), *((name,) for name in FILES if name != "base")], ids="+".join)
def test_every_file_is_valid_on_base(names: tuple[str, ...]) -> None:
    """``otelcol validate`` takes base.yaml alone and with each other file."""
    beside = ("clickhouse", *names) if names == ("gateway",) else names
    done = validate(*beside, **REQUIRED)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.collector
@pytest.mark.parametrize("names", combinations(), ids="+".join)
def test_stages_and_outputs_go_together(names: tuple[str, ...]) -> None:
    """Any stages, in front of any output, make a valid whole."""
    done = validate(*names, **REQUIRED)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.collector
@pytest.mark.parametrize("names", documented(), ids="+".join)
def test_documented_combinations_are_valid(names: tuple[str, ...]) -> None:
    """Every command line in the comments and in the README is one that the Collector takes."""
    done = validate(*names, **REQUIRED)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.collector
@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_what_is_required_is_asked_for(missing: str) -> None:
    """Without a variable that is called required, the Collector does not start half-configured: it refuses."""
    using = [name for name in FILES if f"${{env:{missing}}}" in (otelcol.CONFIG / f"{name}.yaml").read_text()]
    assert using
    name = using[-1]
    names = ("clickhouse", name) if name == "gateway" else (name,)
    done = validate(*names, **{**REQUIRED, missing: ""})
    assert done.returncode != 0, f"{name} started without {missing}"


def settings(name: str) -> dict[str, Any]:
    return yaml.safe_load((otelcol.CONFIG / f"{name}.yaml").read_text())


def test_the_memory_limiter_comes_first() -> None:
    """What enters the Collector meets the memory limiter before anything else."""
    entries = {
        name: pipeline
        for name, pipeline in settings("base")["service"]["pipelines"].items()
        if not any(receiver.startswith("forward/") for receiver in pipeline["receivers"])
    }
    assert entries.keys() == {"traces/receive", "metrics/receive", "logs/receive"}
    assert all(pipeline["processors"][0] == "memory_limiter" for pipeline in entries.values())
    for file in FILES[1:]:
        for name, pipeline in settings(file).get("service", {}).get("pipelines", {}).items():
            assert "processors" not in pipeline or name not in entries, (file, name)


@pytest.mark.parametrize("file", FILES)
def test_no_batch_processor(file: str) -> None:
    """Batches are made in the exporters' queues; a ``batch`` processor stands only behind the tail sampler."""
    names = [name for name in settings(file).get("processors", {}) if name.partition("/")[0] == "batch"]
    assert names == (["batch/decided"] if file == "tail-sampling" else [])
    for pipeline in settings(file).get("service", {}).get("pipelines", {}).values():
        assert "batch/decided" not in pipeline.get("processors", []) or pipeline["processors"] == [
            "tail_sampling",
            "batch/decided",
        ]


@pytest.mark.parametrize("file", ["clickhouse", "forward", "agent", "kafka-agent"])
def test_queues_are_on_disk_and_fsynced(file: str) -> None:
    """A production output has a persistent, fsynced queue, retries for ever, and blocks when it is full."""
    given = settings(file)
    assert given["extensions"]["file_storage/queue"]["fsync"] is True
    assert "file_storage/queue" in given["service"]["extensions"]
    for exporter in given["exporters"].values():
        queue = exporter["sending_queue"]
        assert (queue["storage"], queue["block_on_overflow"], queue["sizer"]) == ("file_storage/queue", True, "bytes")
        assert exporter["retry_on_failure"]["max_elapsed_time"] == 0


@pytest.mark.parametrize("file", FILES)
def test_nothing_listens_everywhere_without_saying_so(file: str) -> None:
    """``0.0.0.0`` is in one file only, and its head says so in capitals; secrets come from the environment."""
    text = (otelcol.CONFIG / f"{file}.yaml").read_text()
    head, code = text[: text.index("\n\n")], text[text.index("\n\n") :]
    assert ("0.0.0.0" in code) == (file == "gateway")
    assert file != "gateway" or "LISTENS ON 0.0.0.0" in head
    for line in re.findall(r"^\s*(?:password|token|authorization|auth|headers): (\S.*)$", code, re.MULTILINE):
        assert "${env:" in line or line in ("&auth", "*auth"), line


@pytest.mark.parametrize("file", FILES)
def test_each_file_says_what_it_is_for_and_what_it_loses(file: str) -> None:
    """The head comment names the purpose and the losses."""
    head = (otelcol.CONFIG / f"{file}.yaml").read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "# Loses: " in head


def test_metrics_are_taken_before_sampling() -> None:
    """The measuring pipeline and the sampling stage branch off the same point."""
    measure = settings("metrics-from-spans")["service"]["pipelines"]["traces/measure"]
    sample = settings("base")["service"]["pipelines"]["traces/sample"]
    assert measure["receivers"] == sample["receivers"] == ["forward/redacted"]
    assert settings("tail-sampling")["service"]["pipelines"].keys() == {"traces/sample"}


def test_compose_publishes_on_loopback_and_mounts_what_is_there() -> None:
    """Every port of compose.yaml is on loopback, every file that it mounts exists, and it runs a valid combination."""
    services = yaml.safe_load((otelcol.CONFIG / "compose.yaml").read_text())["services"]
    assert services.keys() == {"collector", "clickhouse", "grafana"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        mounted = [volume.partition(":")[0] for volume in service["volumes"] if volume.startswith(".")]
        assert mounted
        assert all((otelcol.CONFIG / path).exists() for path in mounted)
    names = [option.rpartition("/")[2].removesuffix(".yaml") for option in services["collector"]["command"]]
    assert names[0] == "base"
    assert tuple(names[1:]) in combinations()


def test_provisioning() -> None:
    """Grafana gets a data source of the kind that the provisioned dashboards are for."""
    provisioning = otelcol.CONFIG / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "clickhouse.yaml").read_text())["datasources"]
    services = yaml.safe_load((otelcol.CONFIG / "compose.yaml").read_text())["services"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "llmspan.yaml").read_text())["providers"]
    assert source["type"] == "grafana-clickhouse-datasource"
    assert f"./grafana/dashboards/clickhouse:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    assert source["secureJsonData"]["password"] == "$CLICKHOUSE_PASSWORD"
