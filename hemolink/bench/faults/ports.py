"""Loopback ports: one that is free, and whether one answers."""

import socket

_HOST = "127.0.0.1"


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def answers(port: int, *, timeout_s: float = 0.5) -> bool:
    """Tell whether something listens on a loopback port."""
    try:
        with socket.create_connection((_HOST, port), timeout=timeout_s):
            return True
    except OSError:
        return False
