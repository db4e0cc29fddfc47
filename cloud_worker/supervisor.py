"""Word to the supervisor that started this process, by systemd's protocol (sd_notify(3)): one datagram a line."""

import contextlib
import os
import socket
import time

_DEFAULT_S = 5.0


class Supervisor:
    """Tells a supervisor, where there is one, that the worker is ready, lives, and stops. The main thread uses it."""

    def __init__(self) -> None:
        self._address = ""
        self._every_s = _DEFAULT_S
        self._next_at = 0.0

    def start(self) -> None:
        """Find out whether there is one."""
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        deadline_us = os.environ.get("WATCHDOG_USEC", "")
        if deadline_us.isdecimal() and int(deadline_us):
            self._every_s = int(deadline_us) / 1e6 / 3

    def ready(self) -> None:
        """Say that start-up is over."""
        self._send("READY=1")

    def alive(self, sentence: str) -> None:
        """Say that all is well, no more often than need be: without that word systemd restarts the process."""
        if self._address and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + self._every_s
            self._send(f"WATCHDOG=1\nSTATUS={sentence}")

    def stopping(self) -> None:
        """Say that the end is meant."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # An address that begins with '@' is an abstract one.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.sendto(text.encode(), address)
