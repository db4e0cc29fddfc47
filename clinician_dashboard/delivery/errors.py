"""Errors of the delivery.

::

    DashboardError
    `-- DeliveryError       what was to be delivered has not arrived
        |-- Refused         the other side looked at it and will not have it: a person must look
        `-- NotNow          the other side, or the way to it, is not ready: the same is sent again
"""

from clinician_dashboard.errors import DashboardError


class DeliveryError(DashboardError):
    """Raised when a report has not arrived. Its sentence may hold the other side's words: it is shown, and never logged."""


class Refused(DeliveryError):
    """Raised when the other side looked at a report and will not have it."""


class NotNow(DeliveryError):
    """Raised when the other side, or the way to it, is not ready.

    Attributes:
        after_s: When the other side wants to be asked again, in seconds from now; none if it did not say.
        of_this: Whether it may be this very report that it stumbles over, so that others may go before it.
        cause: The kind of failure, for the log and a counter: no word of the other side.
    """

    def __init__(
        self, message: str, *, cause: str, after_s: float | None = None, of_this: bool = False
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.after_s = after_s
        self.of_this = of_this
