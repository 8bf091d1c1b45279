"""The backend of a local SQLite file."""

from .backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
