"""The files of deploy/: valid, and about metrics, settings and commands that exist."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmspan.cli import COMMANDS
from llmspan.pipeline.prometheus import prometheus_text
from llmspan.pipeline.statistics import BackendStatus
from llmspan.pipeline.status_file import describe_process
from llmspan.settings import TABLE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.socket"), *DEPLOY.glob("*.timer")])
RULES = yaml.safe_load((DEPLOY / "prometheus-alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]
POD = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text("utf-8"))["spec"]["template"]["spec"]
#: how Prometheus ends the name of an instrument, by its kind and unit
ENDINGS = {
    "counter": "_total",
    "up_down_counter{record}": "",
    "up_down_counterBy": "_bytes",
    "gauge1": "_ratio",
    "gauges": "_seconds",
}


def metric_names() -> dict[str, str]:
    """The name of each of our own metrics, and what Prometheus makes of it, from the instruments themselves."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from llmspan import self_metrics
    from llmspan.pipeline import metrics

    names: dict[str, str] = {}

    class Meter:
        def __getattr__(self, method: str) -> Any:
            def create(name: str, callbacks: Any = None, unit: str = "", description: str = "") -> None:
                kind = method.removeprefix("create_observable_")
                names[name] = name.replace(".", "_") + ENDINGS[kind if kind == "counter" else kind + unit]

            return create

    class Provider(MeterProvider):
        def get_meter(self, *args: Any, **kwargs: Any) -> Any:
            return Meter()

    provider = Provider(metric_readers=[InMemoryMetricReader()])
    metrics.register(lambda: pytest.fail("nothing is collected"), provider)
    self_metrics.register(provider)
    provider.shutdown()
    return names


def test_alerts_are_about_metrics_that_exist() -> None:
    """Each name in an expression is one of ours, and each rule says what happened."""
    known = set(metric_names().values())
    assert len(known) > 10
    for rule in RULES:
        used = set(re.findall(r"llmspan_\w+", rule["expr"])) - {"llmspan_backend_name", "llmspan_drop_reason"}
        assert used - {"llmspan_place"}
        assert used - {"llmspan_place"} <= known, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]


def test_expressions_of_alerts_are_promql() -> None:
    """A parser of PromQL takes each: its functions exist, and get the types that they take."""
    parser = pytest.importorskip("promql_parser")
    for rule in RULES:
        parser.parse(rule["expr"])
    with pytest.raises(ValueError, match="unknown function"):
        parser.parse(RULES[0]["expr"].replace("increase", "growth"))


def test_alerts_and_metrics_are_in_the_documents() -> None:
    """docs/operate/alerts.md has every alert and every metric's name in Prometheus; docs/delivery.md every metric."""
    page = (ROOT / "docs" / "operate" / "alerts.md").read_text("utf-8")
    assert [rule["alert"] for rule in RULES if f"`{rule['alert']}`" not in page] == []
    names = metric_names()
    assert [name for name in names.values() if f"`{name}`" not in page] == []
    delivery = (ROOT / "docs" / "delivery.md").read_text("utf-8")
    assert [name for name in names if f"`{name}`" not in delivery] == []
    assert [field.name for field in fields(BackendStatus) if f"`{field.name}`" not in delivery] == []


def test_metrics_of_the_sidecar_are_in_the_documents() -> None:
    """docs/status.md has each name that `/metrics` and `llmspan status --prometheus` have, and their labels."""
    row = BackendStatus("sqlite", "x", dropped={"queue_full": 1})
    text = prometheus_text([describe_process("sidecar", [row], {"memory": 1}, senders=1)])
    page = (ROOT / "docs" / "status.md").read_text("utf-8")
    names = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    assert len(names) > 10
    labels = set(re.findall(r'(\w+)="', text)) - {"llmspan_medium"}
    assert [name for name in [*names, *labels] if f"`{name}`" not in page] == []


@pytest.mark.parametrize("command", ["check rules prometheus-alerts.yaml", "test rules prometheus-alerts-test.yaml"])
def test_promtool_takes_the_alerts(command: str) -> None:
    """Prometheus's own checker, where it is installed: rules are valid, and fire for what they are about."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run([promtool, *command.split()], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_variable_is_a_setting() -> None:
    """No file sets or names a variable of ours that does not exist."""
    known = {name for setting in TABLE for name in setting.variables} | {"LLMSPAN_UI_PASSWORD"}
    texts = [path.read_text("utf-8") for path in DEPLOY.iterdir() if path.is_file()]
    assert {name for text in texts for name in re.findall(r"LLMSPAN_\w+", text)} - known == set()


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_start_commands_that_exist(unit: Path) -> None:
    """A unit is in the format of systemd, and what it starts is a command of ours with options that it has."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit, "utf-8")
    assert set(parser.sections()) <= {"Unit", "Service", "Socket", "Timer", "Install"}
    if unit.suffix == ".service":
        program, command = parser["Service"]["ExecStart"].split()[:2]
        assert (program, command in COMMANDS) == ("/opt/llmspan/bin/llmspan", True)
        assert parser["Service"]["NoNewPrivileges"] == "yes"


def test_the_pod_shares_the_socket_and_gives_no_rights() -> None:
    """Program and sidecar have the same socket and the same user; neither can write its file system or gain rights."""
    (sidecar,), (program,) = POD["initContainers"], POD["containers"]
    assert sidecar["restartPolicy"] == "Always"
    assert {"startupProbe", "livenessProbe", "resources"} <= sidecar.keys()
    assert POD["securityContext"]["runAsNonRoot"] is True
    for container in (sidecar, program):
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"name": "LLMSPAN_SOCKET", "value": "/run/llmspan/llmspan.sock"} in container["env"]
        assert {"name": "socket", "mountPath": "/run/llmspan"} in container["volumeMounts"]
    mounted = {mount["name"] for container in (sidecar, program) for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in POD["volumes"]}


def test_the_dockerfile_copies_what_the_wheel_needs() -> None:
    """Each COPY from the checkout names what is there, and the image does not run as root."""
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert "USER 10001" in lines


def test_hadolint_finds_nothing() -> None:
    """The linter of Dockerfiles, of the group lint."""
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
