"""The trace backends: one package or module each, the contract in ``base``, and what they share beside it."""

from .loading import (
    DEFAULT,
    backend_names,
    load_backend,
    load_backends,
    open_backend,
    open_backends,
    primary_backend,
)

__all__ = [
    "DEFAULT",
    "backend_names",
    "load_backend",
    "load_backends",
    "open_backend",
    "open_backends",
    "primary_backend",
]
