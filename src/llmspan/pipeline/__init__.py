"""The way from finished calls to backends: an inbox, a worker that builds records, a worker for each backend.

This module only collects the names that other packages use; :mod:`.pipeline` is where a reader begins.
"""

from .pending import PrebuiltRecord
from .pipeline import Pipeline, shared
from .run_summary import RunSummary
from .statistics import BackendStatus

__all__ = ["BackendStatus", "Pipeline", "PrebuiltRecord", "RunSummary", "shared"]
