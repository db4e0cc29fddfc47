"""Errors of the clinician dashboard.

::

    DashboardError
    |-- RecordError           the record cannot be used as it is; names the file and the remedy
    |   |-- RecordInUse       another process has it
    |   `-- BackupError       a backup cannot be made, is not whole, or may not be restored there
    |-- ConflictingContent    a known frame id came again with other content; the record keeps the first
    `-- UnusableMessage       a message that decodes, and still may not enter the record
"""


class DashboardError(Exception):
    """Base of every error of this package."""


class RecordError(DashboardError):
    """Raised when the record (database or image folder) cannot be used as it is."""


class RecordInUse(RecordError):
    """Raised when another process writes the record's folder."""


class BackupError(RecordError):
    """Raised when a backup cannot be made, is not whole, or may not be restored where it was asked."""


class ConflictingContent(DashboardError):
    """Raised when a known frame id comes again with other content, so that one of the two must be wrong."""


class UnusableMessage(DashboardError):
    """Raised when a message decodes, and still may not enter the record.

    Attributes:
        code: A short stable reason, for counters and the health page.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
