"""Images, sounds and files in JSON: base64 as what it is, by type, size and hash. Pure.

Base64 is only looked for where the providers' APIs and the GenAI conventions have it, and in data URLs: text of
letters, digits and blanks decodes as base64, too, so that what a member stands in must say that it is none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Media", "MediaDescriptions", "media_of"]

#: members that hold bare base64 (anthropic sources, openai audio, files and images, google's parts and predictions,
#: parts of the GenAI conventions)
_MEDIA_MEMBERS: Final = frozenset(
    {"data", "file_data", "b64_json", "partial_image_b64", "result", "content", "bytesBase64Encoded"}
)
#: of these, the members whose name says that they do
_BASE64_MEMBERS: Final = frozenset({"file_data", "b64_json", "partial_image_b64", "bytesBase64Encoded"})
#: the types of what holds base64 in one of the others
_BASE64_TYPES: Final = frozenset(
    {"base64", "blob", "image", "audio", "video", "image_url", "input_image", "input_audio", "input_file"}
    | {"image_generation_call", "inlineData", "inline_data"}
)
_AUDIO_FORMATS: Final = frozenset(
    {"aac", "aiff", "flac", "m4a", "mp3", "mpeg", "ogg", "opus", "pcm", "pcm16", "wav", "webm"}
)
#: what is as long as this, in bytes, and has no blank is base64 wherever it stands
_LONG: Final = 64 * 1024
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\s-]++={0,2}\s*", re.ASCII)
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[^,;]*)*?;base64,", re.ASCII)
#: how the bytes of a kind of media begin
_MAGIC: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"%PDF-": "application/pdf",
    b"OggS": "audio/ogg",
    b"fLaC": "audio/flac",
    b"ID3": "audio/mpeg",
}
_RIFF: Final = {b"WAVE": "audio/wav", b"WEBP": "image/webp"}


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a sound or a file. ``content`` is None where only its description was stored."""

    type: str
    size: int
    sha256: str
    content: bytes | None


class MediaDescriptions:
    """Replaces base64 of more than ``limit`` bytes by what it was; counts what it replaced."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shortest = limit * 4 // 3
        self.replaced_count = 0

    def described(self, text: Any, name: str, container: Any) -> Any:
        """A string that is media as an object that describes it; anything else as it is."""
        if not isinstance(text, str) or len(text) <= self._shortest:
            return text
        media = media_of(text, name, container)
        if media is None or media.size <= self._limit:
            return text
        self.replaced_count += 1
        return {"type": media.type, "bytes": media.size, "sha256": media.sha256}


def media_of(value: Any, name: str, container: Any) -> Media | None:
    """What a member ``name`` of ``container`` is: base64, or what was stored in its place; None if neither."""
    if isinstance(value, Mapping):
        return _described(value)
    if not isinstance(value, str):
        return None
    container = container if isinstance(container, Mapping) else {}
    url = _DATA_URL.match(value)
    if url is None and not (_may_be_base64(value, name, container) and _BASE64.fullmatch(value)):
        return None
    try:
        content = _decoded(value[url.end() :] if url else value)
    except (ValueError, binascii.Error):
        return None
    kind = (url[1] if url else None) or _declared_media_type(container) or _detected_media_type(content)
    return Media(kind, len(content), hashlib.sha256(content).hexdigest(), content)


def _may_be_base64(text: str, name: str, container: Mapping[str, Any]) -> bool:
    """Whether a member's name or what stands beside it says that it is base64, or whether it is too long for words."""
    kind = container.get("type")
    if name not in _MEDIA_MEMBERS or kind == "text":
        return False
    if name in _BASE64_MEMBERS or (isinstance(kind, str) and kind in _BASE64_TYPES):
        return True
    if name == "data" and "transcript" in container:  # what a model of openai said aloud
        return True
    media_type = _declared_media_type(container)
    if media_type is not None and not media_type.startswith("text/"):
        return True
    return len(text) * 3 // 4 > _LONG and " " not in text


def _described(value: Mapping[str, Any]) -> Media | None:
    kind, size, sha256 = value.get("type"), value.get("bytes"), value.get("sha256")
    if isinstance(kind, str) and isinstance(size, int) and isinstance(sha256, str):
        return Media(kind, size, sha256, None)
    return None


def _decoded(text: str) -> bytes:
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def _declared_media_type(container: Mapping[str, Any]) -> str | None:
    """The media type that stands beside the data; OpenAI's audio has only a ``format``."""
    for key in ("media_type", "mime_type", "mimeType"):
        if isinstance(container.get(key), str):
            return container[key]
    audio = container.get("format")
    return f"audio/{audio}" if isinstance(audio, str) and audio in _AUDIO_FORMATS else None


def _detected_media_type(content: bytes) -> str:
    if content.startswith(b"RIFF"):
        return _RIFF.get(content[8:12], "application/octet-stream")
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "application/octet-stream")
