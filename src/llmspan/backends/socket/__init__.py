"""The backend of a Unix socket, whose receiver stores the records: a sidecar of llmspan or another program."""

from .backend import SocketBackend

__all__ = ["SocketBackend"]
