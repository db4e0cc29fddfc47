"""Stumbles: connections that ended while a frame was being sent.

A broker that cannot announce its largest packet (MQTT 3.1.1) answers one that is too large by hanging up. Sent again first
thing, such a frame would end every connection and block all behind it for ever. So after a stumble frames go out singly
until one passes, and a frame that ends connections alone, again and again, waits longer each time while others pass.
"""

from collections.abc import Callable

_SUSPICIOUS = 3
_FIRST_S = 2.0
_MAX_DOUBLINGS = 16
_MAX_REMEMBERED = 1000


class Stumbles:
    """Counts them by frame. One thread uses it.

    Args:
        max_s: Longest pause of a frame.
        uniform: Uniform random number between two bounds, for the jitter.

    Attributes:
        cautious: Whether frames should go out one at a time.
    """

    def __init__(self, *, max_s: float, uniform: Callable[[float, float], float]) -> None:
        self._max_s = max_s
        self._uniform = uniform
        self._alone: dict[str, int] = {}
        self.cautious = False

    def note(self, frame_id: str, *, alone: bool) -> float:
        """Note that the connection ended before the broker had acknowledged this frame.

        Args:
            frame_id: The frame.
            alone: Whether it was the only one under way.

        Returns:
            How many seconds the frame should wait; 0 unless it has become suspicious.
        """
        single = self.cautious and alone
        self.cautious = True
        known = self._alone.get(frame_id, 0)
        if not single and known < _SUSPICIOUS:
            return 0.0
        count = self._alone[frame_id] = known + 1
        while len(self._alone) > _MAX_REMEMBERED:
            del self._alone[next(iter(self._alone))]
        if count < _SUSPICIOUS:
            return 0.0
        bound = min(self._max_s, _FIRST_S * 2.0 ** min(count - _SUSPICIOUS, _MAX_DOUBLINGS))
        return self._uniform(bound / 2, bound)

    def passed(self, frame_id: str) -> None:
        """Note that the broker has acknowledged this frame."""
        self.cautious = False
        self.forget(frame_id)

    def forget(self, frame_id: str) -> None:
        """Forget a frame that is no longer sent."""
        self._alone.pop(frame_id, None)
