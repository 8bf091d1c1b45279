"""The ways in which a call can end, as a table: what the server does, what the caller does, what must be recorded.

``OUTCOMES`` times the four streaming APIs times sync and async is the matrix of ``test_outcome_matrix``; the coverage
page is generated from the same table. :func:`perform` lets a caller live through one cell and says what he saw, so
that the same cell can be compared bare and observed.
"""

from .live import Seen, perform, way_of
from .stage import Colour, Stage
from .table import OUTCOMES, Outcome, cells

__all__ = ["OUTCOMES", "Colour", "Outcome", "Seen", "Stage", "cells", "perform", "way_of"]
