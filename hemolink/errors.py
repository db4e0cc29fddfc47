"""Errors of the front door.

::

    FrontDoorError
    |-- ChildDied       a process that the demo started ended by itself; carries the last lines of its log
    |-- NotReady        a process did not become ready in time, with the reason that it gave
    `-- Unanswered      a process's own figures could not be read
"""


class FrontDoorError(Exception):
    """Base of every error of the front door."""


class ChildDied(FrontDoorError):
    """Raised when a process that the demo started ends by itself; the message ends with its last log lines."""


class NotReady(FrontDoorError):
    """Raised when a process does not become ready in time; the message carries the reason that it gave."""


class Unanswered(FrontDoorError):
    """Raised when a process's status or figures cannot be read."""
