"""Errors of the edge.

::

    EdgeError
    |-- CameraError          the camera cannot be opened, or vanished; open it again later
    |   `-- CameraEnded      the source is exhausted: the last file or film frame has been taken
    |-- UnreadableFrame      one picture could not be read; the source goes on
    |-- EncodingFailed       an image could not be encoded, or not within a size
    |-- SpoolError           the spool could not do what it was asked; nothing in it is lost
    |   |-- SpoolFull        the frame would exceed the spool's limit
    |   `-- SpoolUnavailable the disk is full, read-only or failing
    |-- CaseRefused          a case code that may not be used
    |-- OrderFailed          an order to a running agent was not answered
    `-- AgentRefused         the agent cannot start, such as beside another one in the same directory
"""


class EdgeError(Exception):
    """Base of every error of the edge."""


class CameraError(EdgeError):
    """Raised when a camera cannot be opened or has vanished; the caller closes it and opens it again later."""


class CameraEnded(CameraError):
    """Raised when a source has no more pictures to give."""


class UnreadableFrame(EdgeError):
    """Raised when one picture cannot be read; the next call goes on with the next one.

    Attributes:
        code: A short stable reason, such as ``file_truncated``.
        source: The token of the file, so that it is reported once; empty for a live camera.
    """

    def __init__(self, message: str, *, code: str, source: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.source = source


class EncodingFailed(EdgeError):
    """Raised when an image cannot be encoded, or not within the size it must have."""


class SpoolError(EdgeError):
    """Base of the errors of the spool."""


class SpoolFull(SpoolError):
    """Raised when a frame would exceed the spool's limit; the frame was not taken."""


class SpoolUnavailable(SpoolError):
    """Raised when the disk under the spool is full, read-only or failing; the frame was not taken."""


class CaseRefused(EdgeError):
    """Raised when a case code may not be used."""


class OrderFailed(EdgeError):
    """Raised when an order could not be sent to a running agent, or was not answered."""


class AgentRefused(EdgeError):
    """Raised when the agent cannot start."""
