"""Errors of the reports.

::

    DashboardError
    `-- ReportError           a report cannot be made; names the case or the part, and the remedy
        |-- NoSuchCase        the record has no such case
        |-- AmbiguousCase     several sites have a case of that code
        |-- MissingPart       a library that this format needs is not installed
        `-- InvalidReport     what was built breaks its own standard, so it was not handed out
"""

from clinician_dashboard.errors import DashboardError


class ReportError(DashboardError):
    """Raised when a report cannot be made."""


class NoSuchCase(ReportError):
    """Raised when the record has no such case."""


class AmbiguousCase(ReportError):
    """Raised when several sites have a case of that code and none was chosen."""


class MissingPart(ReportError):
    """Raised when a library that a format needs is not installed."""


class InvalidReport(ReportError):
    """Raised when what was built breaks its standard: a fault of ours, and nothing leaves."""
