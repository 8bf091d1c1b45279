"""The ClickHouse server of the tests as a process of its own, which can be killed: engine and HTTP interface together.

What the engine had written survives SIGKILL, as it is in files then (if not yet on the disk: only the machine's own
death would show that). An insert that was under way is there whole, or not at all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Self

from .clickhouse_http import Front


class FrontProcess:
    """At the same port and over the same data in each of its lives."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self._data = folder / "data"
        self._temporary = folder / "temporary"
        self._temporary.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        kept = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(self._temporary)}
        words = [sys.executable, "-m", __name__, str(self.port), str(self._data)]
        self._process = subprocess.Popen(words, env=kept, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        told = _pipe(self._process.stdout).readline()
        assert told, "ClickHouse did not start"
        self.port = int(told)
        return self

    def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            _pipe(process.stdin).close()
            _pipe(process.stdout).close()

    def dsn(self, database: str) -> str:
        return f"http://127.0.0.1:{self.port}/{database}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def main(port: str, data: str) -> None:
    """Serve until whoever has started this is gone."""
    import chdb

    front = Front(chdb.connect(data))
    front.port = int(port)
    front.start()
    print(front.port, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
