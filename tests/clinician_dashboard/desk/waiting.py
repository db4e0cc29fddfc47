"""Waiting for something to become true."""

import time
from collections.abc import Callable
from typing import Any

import pytest


def eventually(true: Callable[[], Any], *, within_s: float = 30.0, what: str = "") -> Any:
    """Wait until ``true()`` is, and return it."""
    deadline = time.monotonic() + within_s
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {within_s} s: {what or true}")
        time.sleep(0.02)
