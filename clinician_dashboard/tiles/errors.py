"""Errors of the pictures.

::

    DashboardError
    `-- PictureError        a picture cannot be made; says why
        `-- NoSuchTile      the frame has no such level or tile
"""

from clinician_dashboard.errors import DashboardError


class PictureError(DashboardError):
    """Raised when a picture of a frame cannot be made."""


class NoSuchTile(PictureError):
    """Raised when a frame has no such level, or the level no such tile."""
