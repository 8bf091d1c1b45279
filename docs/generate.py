"""Writes docs/settings.md from the table in ``llmspan.settings``; ``--check`` only says whether it is up to date."""

import sys
from pathlib import Path

from llmspan.settings import TABLE

PAGE = Path(__file__).with_name("settings.md")
HEAD = """\
# Settings

Generated from `src/llmspan/settings.py` by `just docs`.

Every setting is an environment variable; `llmspan.instrument()` takes the same by keyword (`sqlite_path=...`), which
wins. A value that cannot be read is an error at start that names the variable, the value and what was expected. Under
`opentelemetry-instrument` that error is printed once and the application runs unrecorded.

The standard `OTEL_*` variables are obeyed. Records do not depend on the trace sampler or on attribute limits.

`llmspan sidecar` reads the same variables. Those that say where and how records are stored, and what of a payload is
kept (`LLMSPAN_CAPTURE_PAYLOADS`, `LLMSPAN_REDACT`, `LLMSPAN_REDACT_PATTERNS`, `LLMSPAN_MAX_PAYLOAD_BYTES`,
`LLMSPAN_MAX_MEDIA_BYTES`), hold there for what it receives. How many programs it serves at a time is its option
`--max-clients` (1,000, at most what the limit of open files allows); beyond, the longest idle connection is closed:
[sidecar.md](sidecar.md).
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for setting in TABLE:
        older = f" Also read from `{'`, `'.join(setting.aliases)}`, with a notice." if setting.aliases else ""
        keywords = f"`{setting.name}=`" + (f" (before: `{setting.former_name}=`)" if setting.former_name else "")
        default = setting.default if "`" in setting.default or " " in setting.default else f"`{setting.default}`"
        parts.append(
            f"## `{setting.env}`\n\n{setting.doc}{older}\n\n"
            f"- expects: {setting.expects}\n- default: {default}\n- keyword: {keywords}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text() == page() else "docs/settings.md is out of date: run `just docs`")
    PAGE.write_text(page())
