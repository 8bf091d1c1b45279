"""Multipart requests: their fields, and a description of each file that does not read it.

The user's file objects are neither read nor moved: the size comes from the file system. Only bytes that are in memory
anyway are hashed, when the record is built.
"""

from __future__ import annotations

import io
import mimetypes
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Any, Final

from .. import _json
from ..wire import media

#: larger contents are not kept in memory to be hashed
_MAX_HASHED_SIZE: Final = 32 * 1024 * 1024


class Upload:
    """The form of one request: ``fields`` as the SDK would encode them, ``files`` as it gives them to httpx."""

    def __init__(self, fields: Mapping[str, Any], files: Any) -> None:
        self._fields = dict(fields)
        pairs = files.items() if isinstance(files, Mapping) else files
        self._files = [(str(name), _File(file)) for name, file in pairs]

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields beside the files."""
        return self._fields

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return sum(len(file.content) for _, file in self._files if file.content is not None)

    def as_json(self) -> str:
        """One JSON object: the fields, and each file as its filename, content type, bytes and SHA-256."""
        form = dict(self._fields)
        names = [name for name, _ in self._files]
        for name, file in self._files:
            description = file.described()
            form[name] = description if names.count(name) == 1 else [*form.get(name, []), description]
        return _json.dumps(form)


class _File:
    """One file. Source: httpx ``FileTypes``: the content, or a tuple that starts with a name and the content."""

    def __init__(self, file: Any) -> None:
        name, content, kind = (*file, None, None)[:3] if isinstance(file, tuple) else (None, file, None)
        if name is None:
            name = PurePath(str(getattr(content, "name", "upload"))).name
        self.filename = str(name)
        self.content_type = kind or mimetypes.guess_type(self.filename)[0] or "application/octet-stream"
        self.size = _size(content)
        memory = content.getvalue() if type(content) is io.BytesIO else content
        self.content = memory if isinstance(memory, bytes) and len(memory) <= _MAX_HASHED_SIZE else None

    def described(self) -> dict[str, Any]:
        description: dict[str, Any] = {"filename": self.filename, "content_type": self.content_type}
        if self.content is not None:
            return {"filename": self.filename, **media.describe(self.content, self.content_type)}
        return description if self.size is None else {**description, "bytes": self.size}


def _size(content: Any) -> int | None:
    if isinstance(content, bytes | str):
        return len(content if isinstance(content, bytes) else content.encode())
    with suppress(OSError, AttributeError, ValueError, TypeError):
        return os.fstat(content.fileno()).st_size
    return None
