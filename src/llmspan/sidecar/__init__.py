"""The receiving end of the socket: ``llmspan sidecar``, and the reference for receivers in other languages."""

from .archive import Archive
from .listen import Listener, listen
from .server import Sidecar

__all__ = ["Archive", "Listener", "Sidecar", "listen"]
