"""Coverage-guided fuzzing of everything that reads a provider's bytes: no exception, whatever they are.

    uv run --with atheris python tests/fuzz/wire.py --seconds 60

The corpus is made of all interactions, read where they are. An input is a byte that chooses the API, a byte that
chooses the content type, and a body. An input that breaks something is printed as a line of Python and kept in a file.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris  # not in any dependency group: `uv run --with atheris`
import click

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["llmspan"]):
    from llmspan import messages, wire
    from llmspan.wire.apis import anthropic_batches as batches
    from llmspan.wire.apis.gemini_batches import read_batch
    from llmspan.wire.reply import obj

from interaction import Interaction, wire_ids
from wires import check_sane

APIS = sorted(wire.PARSERS)
MEDIA = ("", "text/event-stream", "application/json", "application/vnd.amazon.eventstream", "audio/mpeg")
#: longer ones make a slow corpus
LONGEST = 8192


def check(data: bytes) -> None:
    """All readers over one input."""
    if len(data) < 2:
        return
    api, media, body = APIS[data[0] % len(APIS)], MEDIA[data[1] % len(MEDIA)], data[2:]
    try:
        check_sane(api, body)
        wire.summarize(api, body, media)
        _, response = wire.reassemble(api, body, media)
        messages.content_attributes(None, response)
        for line in body.split(b"\n"):
            batches.read_result(line)
        with contextlib.suppress(ValueError, RecursionError):
            read_batch(obj(json.loads(body)))
    except BaseException:
        print(f"check({data!r})", file=sys.stderr)
        raise


def write_corpus(folder: Path) -> int:
    """The bodies of the interactions as inputs; how many."""
    found = 0
    for interaction in map(Interaction.load, wire_ids()):
        if interaction.record_api in APIS and len(interaction.wire) <= LONGEST:
            media = 1 if interaction.expect["is_sse"] else 2
            (folder / interaction.id).write_bytes(bytes([APIS.index(interaction.record_api), media]) + interaction.wire)
            found += 1
    return found


@click.command()
@click.option("--seconds", type=int, default=60, show_default=True, help="How long to look.")
def main(seconds: int) -> None:
    """Look for inputs that break a reader; exit with 1 if there is one."""
    with tempfile.TemporaryDirectory() as corpus:
        count = write_corpus(Path(corpus))
        click.echo(f"{count} interactions")
        kept = Path(tempfile.gettempdir()) / "llmspan-fuzz-"
        options = [
            f"-max_total_time={seconds}",
            f"-artifact_prefix={kept}",
            "-max_len=65536",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        sys.exit(subprocess.run([sys.executable, __file__, "--here", corpus, *options], check=False).returncode != 0)


if __name__ == "__main__":
    if "--here" in sys.argv:
        sys.argv.remove("--here")
        atheris.Setup(sys.argv, check)
        atheris.Fuzz()
    else:
        main()
