"""``python -m llmspan.cli``: the command line where its script is not on the PATH."""

from . import main

main(prog_name="llmspan")
