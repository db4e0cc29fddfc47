"""How long to wait for a receipt before a frame is published again."""

import random
from collections.abc import Callable

from edge_agent.settings import DeliverySettings

_PATIENCE = 3.0
_SHARE_OF_NEWS = 0.2
_GROWTH, _RELIEF, _MAX_STRAIN = 1.5, 0.95, 8.0
_MAX_DOUBLINGS = 16


class ResendTimer:
    """Exponential backoff with full jitter on top of a floor that follows the far end's pace.

    The floor is the setting, or three times what receipts usually take if that is longer. A receipt of a frame that had
    been sent again shows that the floor was too low (Karn's rule: such a receipt tells no time), so it grows by half,
    and every receipt of a frame sent once lowers it a little.

    Args:
        settings: The floor and the upper bound of the jitter.
        uniform: Uniform random number between two bounds.
    """

    def __init__(
        self, settings: DeliverySettings, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._settings = settings
        self._uniform = uniform
        self._usual_s = 0.0
        self._strain = 1.0

    def in_s(self, attempts: int) -> float:
        """Return how many seconds to wait after publish number ``attempts``, from 1."""
        floor = max(self._settings.resend_after_s, _PATIENCE * self._usual_s) * self._strain
        if attempts <= 1:
            return floor
        growth = floor * 2.0 ** min(attempts - 1, _MAX_DOUBLINGS)
        return floor + self._uniform(0.0, min(self._settings.resend_max_s, growth))

    def learn(self, took_s: float, *, attempts: int) -> None:
        """Note that the final receipt came ``took_s`` seconds after publish number ``attempts``."""
        if attempts == 1:
            self._usual_s += _SHARE_OF_NEWS * (took_s - self._usual_s)
            self._strain = max(1.0, self._strain * _RELIEF)
        else:
            self._strain = min(_MAX_STRAIN, self._strain * _GROWTH)

    def relax(self) -> None:
        """Forget the strain: somebody has come back."""
        self._strain = 1.0
