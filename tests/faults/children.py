"""Starting the program again and again over one folder, and reading what has become of its records."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import sys
from collections import defaultdict
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from faults import program
from faults.program import Plan
from llmspan.pipeline import BackendStatus
from scripted import identity_holds

#: seconds that a program may take, from its start to its end, on a machine under load
PATIENCE = 300


@cache
def template() -> Any:
    """A clean process that has imported everything, and is forked for each child: no threads of pytest's in it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faults.program", "faults.test_memory", "pytest"])
    with pytest.MonkeyPatch.context() as patch:  # it does not get our path by itself, and then imports nothing
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


class Children:
    """The life of one spool and one store, over several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = template()
        self._running: list[Any] = []

    def start(self, **plan: Any) -> Any:
        process = self.context.Process(target=program.run, args=(Plan(self.folder, **plan),), daemon=True)
        process.start()
        self._running.append(process)
        return process

    def run(self, **plan: Any) -> int:
        """A child from its start to its end: its exit code, negative for the signal that ended it."""
        process = self.start(**plan)
        process.join(PATIENCE)
        assert process.exitcode is not None, "it has not ended"
        return process.exitcode

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.join(PATIENCE)

    @property
    def taken(self) -> list[str]:
        """What the pipeline was given."""
        return self._lines("taken.txt")

    @property
    def accepted(self) -> list[str]:
        """What the spool had accepted."""
        return self._lines("accepted.txt")

    @property
    def stored(self) -> list[str]:
        connection = sqlite3.connect(self.folder / "traces.db")
        try:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'provider_traces'").fetchall():
                return []  # nothing was ever accepted
            return [id_ for (id_,) in connection.execute("SELECT id FROM provider_traces")]
        finally:
            connection.close()

    @property
    def dead(self) -> list[str]:
        """What the store has refused, as often as it is in the dead-letter file; no line of it is torn."""
        path = self.folder / "dead" / "sqlite.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["record"]["id"] for line in lines]

    @property
    def changed_batches(self) -> int:
        """How many records were sent again in another batch than the first time."""
        seen: dict[str, set[str]] = defaultdict(set)
        for line in self._lines("batches.txt"):
            for id_ in line.split():
                seen[id_].add(line)
        return sum(len(batches) > 1 for batches in seen.values())

    def status(self) -> BackendStatus:
        """The accounts of the last child that ended by itself, which must balance."""
        (values,) = json.loads((self.folder / "status.json").read_text())
        status = BackendStatus(**values)
        assert identity_holds(status)
        return status

    def spool_files(self) -> list[Path]:
        return sorted((self.folder / "spool").glob("*/*"))

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        text = path.read_text() if path.exists() else ""
        return [line for line in text.splitlines(keepends=False) if len(line) >= 36]
