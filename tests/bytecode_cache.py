"""Keeps compiled modules where the environment says not to write them, as container images do.

Many tests start programs, and without a cache each of them compiles the SDKs anew, which takes longer than the rest of
the program. The cache is outside of the tree and of the environments. Importing this module is enough, for this process
and for the programs that it starts; it has to come before the imports that are to be kept.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

#: ``.ci/run`` names the same folder
FOLDER: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmspan" / "pycache"

if os.environ.get("PYTHONDONTWRITEBYTECODE"):
    del os.environ["PYTHONDONTWRITEBYTECODE"]
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(FOLDER)
