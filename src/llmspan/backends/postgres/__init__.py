"""The backend of a Postgres database; needs the extra ``postgres``."""

from .backend import PostgresBackend

__all__ = ["PostgresBackend"]
