"""Writes the dashboards, one folder for each data source; ``--check`` only says whether they are up to date.

python collector-config/grafana/build.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from panels import DASHBOARDS, Panel
from queries import DIALECTS, Dialect

FOLDER = Path(__file__).parent / "dashboards"
MENU = {"type": "dashboards", "tags": ["llmspan"], "title": "llmspan", "asDropdown": True, "keepTime": True}


def text_box(name: str, label: str, value: str = "") -> dict[str, Any]:
    current = {"text": value, "value": value}
    return {"type": "textbox", "name": name, "label": label, "query": value, "current": current, "options": [current]}


def choice(name: str, label: str, query: str, source: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": source,
        "query": query,
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


@dataclass
class Layout:
    """Puts panels side by side, from left to right, 24 units wide."""

    x: int = 0
    y: int = 0
    height: int = 0
    placed: list[dict[str, int]] = field(default_factory=list)

    def place(self, width: int, height: int) -> dict[str, int]:
        if self.x + width > 24:
            self.x, self.y, self.height = 0, self.y + self.height, 0
        where = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.x += width
        self.height = max(self.height, height)
        return where


def panel_json(number: int, panel: Panel, dialect: Dialect, where: dict[str, int]) -> dict[str, Any]:
    source = {"type": dialect.datasource, "uid": "${datasource}"}
    target: dict[str, Any] = {"refId": "A", "datasource": source, "rawSql": panel.query(dialect)}
    series = panel.kind == "timeseries"
    if dialect.name == "clickhouse":
        target |= {"editorType": "sql", "queryType": "timeseries" if series else "table", "format": 0 if series else 1}
    else:
        target |= {"rawQuery": True, "editorMode": "code", "format": "time_series" if series else "table"}
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "gridPos": where,
        "targets": [target],
        "fieldConfig": {"defaults": {"unit": panel.unit} if panel.unit else {}, "overrides": overrides(panel, dialect)},
        "options": options(panel),
    }
    return made


def overrides(panel: Panel, dialect: Dialect) -> list[dict[str, Any]]:
    """Units of single columns, and a link from every call to its own dashboard."""
    found = [
        {"matcher": {"id": "byName", "options": column}, "properties": [{"id": "unit", "value": unit}]}
        for column, unit in panel.units.items()
    ]
    if panel.links:
        url = f"/d/llmspan-{dialect.name}-call?var-id=${{__value.raw}}&var-datasource=${{datasource}}"
        link = {"title": "this call", "url": url}
        found.append({"matcher": {"id": "byName", "options": "id"}, "properties": [{"id": "links", "value": [link]}]})
    return found


def options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "none"}
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {"cellHeight": "sm", "showHeader": True}


def dashboards() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every file and what is in it."""
    for dialect in DIALECTS:
        for board in DASHBOARDS:
            source = {"type": dialect.datasource, "uid": "${datasource}"}
            variables: list[dict[str, Any]] = [
                {"type": "datasource", "name": "datasource", "label": "Data source", "query": dialect.datasource}
            ]
            if board.filtered:
                variables += [
                    choice("provider", "Provider", dialect.provider_variable, source),
                    choice("model", "Model", dialect.model_variable, source),
                ]
            if board.priced:
                variables.append(text_box("prices", "USD per million tokens", "{}"))
            variables += [text_box(name, label) for name, label in board.text_boxes.items()]
            layout = Layout()
            yield (
                FOLDER / dialect.name / f"{board.name}.json",
                {
                    "uid": f"llmspan-{dialect.name}-{board.name}",
                    "id": None,
                    "title": f"llmspan: {board.title}",
                    "description": board.description,
                    "tags": ["genai", "otel", "llmspan"],
                    "schemaVersion": 39,
                    "editable": True,
                    "refresh": "",
                    "time": {"from": "now-24h", "to": "now"},
                    "timezone": "utc",
                    "links": [
                        {
                            "type": "dashboards",
                            "tags": ["llmspan"],
                            "title": "llmspan",
                            "asDropdown": True,
                            "keepTime": True,
                        }
                    ],
                    "templating": {"list": variables},
                    "panels": [
                        panel_json(number, panel, dialect, layout.place(panel.width, panel.height))
                        for number, panel in enumerate(board.panels, 1)
                    ],
                },
            )


def text_of(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


if __name__ == "__main__":
    for path, content in dashboards():
        if "--check" in sys.argv:
            if not path.exists() or path.read_text() != text_of(content):
                sys.exit(f"{path} is out of date: run python {Path(__file__).relative_to(Path.cwd())}")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text_of(content))
