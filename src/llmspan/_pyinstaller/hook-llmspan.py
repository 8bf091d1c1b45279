"""The parts of llmspan that no import statement names: what entry points load, their metadata, and the SQL files.

PyInstaller runs this file when a program imports llmspan. The commands stay out: a frozen program has no use for them.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

from PyInstaller.utils.hooks import collect_data_files, collect_entry_point, collect_submodules, copy_metadata

_LEFT_OUT = ("llmspan.cli", "llmspan.demo", "llmspan.sidecar", "llmspan._pyinstaller")


def _is_needed(name: str) -> bool:
    return not name.startswith(_LEFT_OUT)


datas = [*collect_data_files("llmspan"), *copy_metadata("llmspan")]
hiddenimports = collect_submodules("llmspan", filter=_is_needed)
for _group in ("llmspan.backends", "llmspan.providers"):  # those of other packages, too
    _datas, _hiddenimports = collect_entry_point(_group)
    datas += _datas
    hiddenimports += _hiddenimports
for _package in ("openai", "anthropic", "google-genai"):  # whose versions are asked for
    try:
        datas += copy_metadata(_package)
    except PackageNotFoundError:
        continue
