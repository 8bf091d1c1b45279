"""Tells PyInstaller where our hook is (entry point group ``pyinstaller40``)."""

from __future__ import annotations

from pathlib import Path

__all__ = ["hook_directories"]


def hook_directories() -> list[str]:
    """The directory of ``hook-llmspan.py``."""
    return [str(Path(__file__).parent)]
