"""What is said of bytes that are not kept: their type, their number and their SHA-256."""

from __future__ import annotations

import hashlib
from typing import Any


def describe(content: bytes, media_type: str = "") -> dict[str, Any]:
    """``{"content_type", "bytes", "sha256"}`` of ``content``; the type only if it is known."""
    kind = {"content_type": media_type} if media_type else {}
    return {**kind, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
