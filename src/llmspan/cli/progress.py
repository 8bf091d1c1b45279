"""A progress bar on standard error, for commands that take long; nothing where standard error is not a terminal.

It is shown only if standard error is a terminal. Where standard output is one too, the records that scroll by show the
progress, and a bar would stand between them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(total: Callable[[], int], *, to_stdout: bool) -> Generator[Callable[[int], None]]:
    """Gives a function to call with the number of records that were done.

    ``total`` says how many there are, and is asked only if a bar is shown. ``to_stdout``: whether the command prints
    the records to standard output.
    """
    if not sys.stderr.isatty() or (to_stdout and sys.stdout.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), "records,", TimeRemainingColumn(), "left")
    with Progress(*columns, console=console, transient=True, disable=console.is_dumb_terminal) as progress:
        task = progress.add_task("", total=total())
        yield lambda number: progress.advance(task, number)
