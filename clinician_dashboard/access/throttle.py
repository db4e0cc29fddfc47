"""How often sign-in may be tried: a few wrong passwords are free, then each costs twice the wait of the one before.

Counted by login and address together, by address, and by login from everywhere. The last is lenient, since it lets a
stranger keep somebody out. Who is signed in and gives the password again has no address: one reader's mistakes keep no other
from signing. Memory is bounded; whoever falls out of it has not tried for longer than the others.
"""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from clinician_dashboard.access.errors import TooManyTries

MAX_KEYS: Final = 20_000
FORGOTTEN_AFTER_S: Final = 3600.0
CONFIRMING: Final = "confirm"
"""In the place of an address: of somebody who is signed in."""


@dataclass(frozen=True)
class Rule:
    """How one kind of count is punished.

    Attributes:
        free: Wrong passwords without a wait.
        first_s: The wait after the next; then twice as long each time.
        longest_s: The longest wait.
    """

    free: int
    first_s: float
    longest_s: float

    def wait_s(self, failures: int) -> float:
        """Return the wait after so many wrong passwords."""
        over = failures - self.free
        return 0.0 if over <= 0 else min(self.longest_s, self.first_s * 2.0 ** min(over - 1, 30))


BOTH: Final = Rule(free=5, first_s=1, longest_s=900)
ADDRESS: Final = Rule(free=20, first_s=1, longest_s=900)
ACCOUNT: Final = Rule(free=50, first_s=1, longest_s=60)


@dataclass
class _Count:
    failures: int = 0
    until: float = 0.0
    last: float = 0.0


class Throttle:
    """Counts wrong passwords.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()

    def begin(self, account: str, address: str) -> int:
        """Count a try before it is made, so that many at once are not all free; `succeeded` takes it back.

        Returns:
            How many were not taken back of this login from this address, this one included.

        Raises:
            TooManyTries: If nothing may be tried now; this one is not counted.
        """
        at = self._clock()
        with self._lock:
            counts = [(key, rule, self._counts.get(key)) for key, rule in _keys(account, address)]
            until = max((count.until for _, _, count in counts if count is not None), default=0.0)
            if until > at:
                raise TooManyTries(until - at)
            return self._add(account, address, 1, at)

    def restore(self, account: str, address: str, times: int) -> None:
        """Count wrong passwords of before a restart."""
        with self._lock:
            self._add(account, address, times, self._clock())

    def succeeded(self, account: str, address: str) -> None:
        """Take a try back: the password was right. What came before is forgiven to login and address together."""
        with self._lock:
            keys = [key for key, _ in _keys(account, address)]
            self._counts.pop(keys[0], None)
            for key in keys[1:]:
                if (count := self._counts.get(key)) is not None:
                    count.failures -= 1
                    # The wait before was over when this try began; its own is nobody's.
                    count.until = 0.0

    def _add(self, account: str, address: str, times: int, at: float) -> int:
        failures = []
        for key, rule in _keys(account, address):
            count = self._counts.pop(key, None)
            if count is None or at - count.last > FORGOTTEN_AFTER_S:
                count = _Count()
            count.failures += times
            count.last = at
            count.until = at + rule.wait_s(count.failures)
            self._counts[key] = count
            failures.append(count.failures)
        while len(self._counts) > MAX_KEYS:
            self._counts.popitem(last=False)
        return failures[0]

    def __len__(self) -> int:
        return len(self._counts)


def _keys(account: str, address: str) -> tuple[tuple[tuple[str, str], Rule], ...]:
    network = _network(address)
    both, own = (("both", f"{network} {account}"), BOTH), (("account", account), ACCOUNT)
    return (both, own) if address == CONFIRMING else (both, (("address", network), ADDRESS), own)


def _network(address: str) -> str:
    """An IPv6 client owns at least a /64, and could come from another address each time."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address}/64", strict=False))
    except ValueError:
        return address
