"""Errors of users, sign-in and tokens.

::

    DashboardError
    `-- AccessError           the sentence may be shown to who asked
        |-- PasswordRefused   a password is wrong, or may not be chosen
        |-- TooManyTries      wait; says how long
        |-- NameTaken         a user or a token of that name is there
        |-- NoSuchOne         there is no such user, session or token
        `-- SignInFailed      the identity provider's answer is not accepted
"""

import math

from clinician_dashboard.errors import DashboardError


class AccessError(DashboardError):
    """Base of the errors of this package; its sentence may be shown to who asked."""


class PasswordRefused(AccessError):
    """Raised when a password is wrong, or may not be chosen."""


class TooManyTries(AccessError):
    """Raised when sign-in was tried too often with a wrong password.

    Attributes:
        wait_s: How long nothing more is tried.
    """

    def __init__(self, wait_s: float) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        many = f"{self.wait_s} seconds" if self.wait_s < 90 else f"{-(-self.wait_s // 60)} minutes"  # noqa: PLR2004
        super().__init__(f"Too many wrong passwords: the next try is in {many}.")


class NameTaken(AccessError):
    """Raised when a user or a token of that name is there already."""


class NoSuchOne(AccessError):
    """Raised when there is no such user, session or token."""


class SignInFailed(AccessError):
    """Raised when what the identity provider answered is not accepted."""
