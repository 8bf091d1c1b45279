"""Records on disk until every backend has them. This module only collects the names that the pipeline uses."""

from .backlog import SpoolBacklog
from .spool import Spool, SpoolConsumer, SpoolFullError
from .writer import SpoolWriter, resolve_spool_directory

__all__ = ["Spool", "SpoolBacklog", "SpoolConsumer", "SpoolFullError", "SpoolWriter", "resolve_spool_directory"]
