"""What a call that does not stream costs the whole process in instructions, beside other instrumentations.

    uv run python bench/whole_instructions.py           # table; makes an environment for each peer, from the index
    uv run python bench/whole_instructions.py --docs    # the table in docs/performance.md

As ``whole.py``, but counted by Valgrind: all threads, until all that was recorded is flushed, without what the garbage
collector does. A count says nothing of caches, and repeats within two percent, however busy the machine is. Valgrind
is slow, so llmspan waits longer for further calls: as many come together as at full speed. For the same reason there is
no status file, which is written once a second whatever the calls: that would be once for every few of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import report
from whole import BARE, PAGE, ROOT, command_of
from whole_peers import PEERS
from whole_program import COUNTED

#: the peers of the table: the ones that record content, and the floors
SHOWN = (BARE, "official, content", "openinference", "traceloop", "a span and a row by hand", "the call read by hand",
         "llmspan")  # fmt: skip
_DUMP = re.compile(r"desc: Trigger: Client Request: (.*)\|(\d+)\n")
Counts = dict[str, dict[str, int]]


def count(name: str, calls: int) -> dict[str, int]:
    """The instructions of a call of each counted series, in the environment of one peer."""
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--dump-line=no"]
        valgrind.append(f"--callgrind-out-file={folder}/out")
        command = command_of(name, "--count", str(calls), runner=valgrind)
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "LLMSPAN_"))}
        environ |= {"PYTHONHASHSEED": "0", "LLMSPAN_LINGER": "10", "LLMSPAN_STATUS_DIR": "off"}
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environ)
        return _read(Path(folder))


def _read(folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path in folder.iterdir():
        text = path.read_text()
        dump = _DUMP.search(text)
        if dump is not None:
            counts[dump[1]] = int(text.rpartition("totals: ")[2]) // int(dump[2])
    return counts


def table_of(counts: Counts) -> str:
    """What a call adds to the bare SDK, of each peer."""
    lines = ["| added instructions a call | " + " | ".join(COUNTED) + " |", "|---" + "|---:" * len(COUNTED) + "|"]
    for name, found in counts.items():
        added = found if name == BARE else {title: found[title] - counts[BARE][title] for title in found}
        lines.append(f"| {name} | " + " | ".join(f"{added[title]:,}" for title in COUNTED) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"one of: {', '.join(PEERS)}")
    options = parser.parse_args()
    counts: Counts = {}
    for name in (BARE, *options.peers) if options.peers else SHOWN:
        try:
            counts[name] = count(name, 2 if options.quick else 40)
        except subprocess.CalledProcessError as error:
            print(f"{name}: {error.stderr[-300:]}", file=sys.stderr)
    table = table_of(counts)
    report.give(options, counts, table)
    if options.docs:
        report.write_between(PAGE, "whole_instructions", table)


if __name__ == "__main__":
    main()
