"""How much the kernel still holds for the peer: on a slow line the one sign of life while a packet is on its way."""

import socket
import struct
from contextlib import suppress

try:
    import fcntl
    import termios

    _REQUEST: int | None = termios.TIOCOUTQ
except (ImportError, AttributeError):  # Windows; there only what comes back counts as a sign of life
    _REQUEST = None


class SendQueue:
    """The bytes of one connection that its peer has not acknowledged.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._seen = 0

    def note(self) -> None:
        """Remember how long it is now."""
        self._seen = self._length()

    def is_shrinking(self) -> bool:
        """Whether it is shorter than at the last `note`, and not empty.

        An empty one says nothing: the kernel of a broker that stands still takes a ping like any other.
        """
        return 0 < self._length() < self._seen

    def _length(self) -> int:
        if _REQUEST is not None:
            with suppress(OSError):
                return int(struct.unpack("i", fcntl.ioctl(self._connection.fileno(), _REQUEST, b"\0" * 4))[0])
        return 0
