"""The receiving end of the socket: ``llmspan sidecar``, and the reference for receivers in other languages."""

from .listen import Listener, bind_socket
from .record_store import RecordStore
from .server import Sidecar

__all__ = ["Listener", "RecordStore", "Sidecar", "bind_socket"]
