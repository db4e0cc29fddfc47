"""Errors of the review.

::

    ReviewError               what was asked cannot be done; the sentence says why, and what to do
    |-- NotAllowed            the person's role, or the person, may not
    |-- NoSuchCase            there is no such case or frame in this record
    |-- Unusable              what was given cannot be used
    |-- OutOfDate             the review changed since the page was made
    |-- HeldByAnother         somebody else has the case
    |-- OutOfOrder            the act has no place in the review's present state
    `-- NotReady              gates of the sign-off are not met
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clinician_dashboard.errors import DashboardError

if TYPE_CHECKING:
    from clinician_dashboard.review.gates import Gate


class ReviewError(DashboardError):
    """Base of the errors of the review.

    Attributes:
        status: The HTTP status that says it best.
        code: Stable, for scripts.
    """

    status = 409
    code = "review"


class NotAllowed(ReviewError):
    """Raised when the person's role, or the person, may not do this."""

    status = 403
    code = "not_allowed"


class NoSuchCase(ReviewError):
    """Raised when the record has no such case, or the case no such frame."""

    status = 404
    code = "no_such_case"


class Unusable(ReviewError):
    """Raised when what was given cannot be used: an unknown class, no reason where one is needed, a text too long."""

    status = 422
    code = "unusable"


class OutOfDate(ReviewError):
    """Raised when the review changed since the page was made.

    Attributes:
        revision: The present one.
    """

    code = "out_of_date"

    def __init__(self, message: str, *, revision: int) -> None:
        super().__init__(message)
        self.revision = revision


class HeldByAnother(ReviewError):
    """Raised when somebody else has the case."""

    code = "held_by_another"


class OutOfOrder(ReviewError):
    """Raised when the act has no place in the review's present state."""

    code = "out_of_order"


class NotReady(ReviewError):
    """Raised when gates of the sign-off are not met.

    Attributes:
        gates: Those that are not.
    """

    code = "not_ready"

    def __init__(self, message: str, *, gates: Sequence["Gate"] = ()) -> None:
        super().__init__(message)
        self.gates = tuple(gates)
