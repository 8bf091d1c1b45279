"""A Python that has imported the SDKs, and forks for each program: these imports take three seconds of CPU time.

It is for programs that do the same whether an SDK is imported before or after llmspan. Those about imports, launchers
or the start of a process are run as a user runs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SERVER = """
import json, os, runpy, signal, sys
import anthropic, google.genai, openai

for line in sys.stdin:
    module, words, environment, output = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(300)  # a program that hangs is killed, and its test fails
        written = os.open(output, os.O_WRONLY | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(written, 1)
        os.dup2(written, 2)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class PreloadedPython:
    """The process that forks; it ends when its standard input does, so with the tests at the latest."""

    process: subprocess.Popen[str] = field(
        default_factory=lambda: subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    )

    def run_module(self, module: str, *words: str, env: dict[str, str]) -> tuple[int, str]:
        """As ``python -m module words`` in an environment: its exit code, and what it prints to both streams."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with tempfile.NamedTemporaryFile() as output:
            self.process.stdin.write(json.dumps([module, words, env, output.name]) + "\n")
            self.process.stdin.flush()
            code = int(self.process.stdout.readline())
            return code, Path(output.name).read_text()


@cache
def preloaded_python() -> PreloadedPython:
    """The one of this process."""
    return PreloadedPython()
