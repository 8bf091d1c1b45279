"""Bytes of a response in, facts and the whole response out. This module only collects the names that others use."""

from .error_types import class_name, error_type
from .reading import PARSERS, reassemble, summarize
from .reply import Reply, ReplyError, ResponseParser, read_error

__all__ = [
    "PARSERS",
    "Reply",
    "ReplyError",
    "ResponseParser",
    "class_name",
    "error_type",
    "read_error",
    "reassemble",
    "summarize",
]
