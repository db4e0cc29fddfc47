"""Stumbles: connections that ended while a frame was being sent.

A broker that cannot announce its largest packet (MQTT 3.1.1) answers one that is too large by hanging up. Sent again first
thing, such a frame would end every connection and block all behind it for ever. So after a stumble frames go out singly
until one passes, and a frame that ends connections alone, again and again, rests longer each time while others pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

_SUSPICIOUS = 3
_FIRST_S = 2.0
_MAX_DOUBLINGS = 16
_MAX_REMEMBERED = 1000


@dataclass
class _Suspect:
    count: int = 0
    rests_until: float = 0.0


class Stumbles:
    """Counts them by frame. One thread uses it.

    Args:
        max_s: Longest rest of a frame.
        clock: Monotonic seconds.
        uniform: Uniform random number between two bounds, for the jitter.

    Attributes:
        cautious: Whether frames should go out one at a time.
    """

    def __init__(
        self, *, max_s: float, clock: Callable[[], float], uniform: Callable[[float, float], float]
    ) -> None:
        self._max_s = max_s
        self._clock = clock
        self._uniform = uniform
        self._suspects: dict[str, _Suspect] = {}
        self.cautious = False

    def note(self, frame_id: str, *, alone: bool) -> bool:
        """Note that the connection ended before the broker had acknowledged this frame.

        Args:
            frame_id: The frame.
            alone: Whether it was the only one under way.

        Returns:
            Whether it has become suspicious, and rests.
        """
        single = self.cautious and alone
        self.cautious = True
        suspect = self._suspects.get(frame_id, _Suspect())
        if not single and suspect.count < _SUSPICIOUS:
            return False
        self._suspects[frame_id] = suspect
        suspect.count += 1
        while len(self._suspects) > _MAX_REMEMBERED:
            del self._suspects[next(iter(self._suspects))]
        if suspect.count < _SUSPICIOUS:
            return False
        bound = min(self._max_s, _FIRST_S * 2.0 ** min(suspect.count - _SUSPICIOUS, _MAX_DOUBLINGS))
        suspect.rests_until = self._clock() + self._uniform(bound / 2, bound)
        return True

    @property
    def resting(self) -> tuple[str, ...]:
        """The frames that are not to be sent now."""
        now = self._clock()
        return tuple(frame_id for frame_id, one in self._suspects.items() if one.rests_until > now)

    def passed(self, frame_id: str) -> None:
        """Note that the broker has acknowledged this frame."""
        self.cautious = False
        self.forget(frame_id)

    def forget(self, frame_id: str) -> None:
        """Forget a frame that is no longer sent."""
        self._suspects.pop(frame_id, None)
