"""The command line. ``group`` has the table of commands; each is a module that is imported when it is called for."""

from .group import COMMANDS, main

__all__ = ["COMMANDS", "main"]
