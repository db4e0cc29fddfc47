"""The hold: why frames are not sent at full rate at this moment, and how it is found out that they may be again.

Every reason is a guess about the far end, so none of them stops the frames for good. While one stands, single frames
are sent as probes, one at a time and at growing pauses, and whatever they show lifts it.
"""

import logging
import random
from collections.abc import Callable
from typing import Literal

from edge_agent.status import AlarmCode, Alarms

logger = logging.getLogger(__name__)

Reason = Literal["nobody_subscribes", "deserted", "refused", "silence", "no_record", "busy"]
"""Why frames are held:

* ``nobody_subscribes``: the broker said so (0x10);
* ``deserted``: no worker is online by the fleet's own states;
* ``refused``: the broker refuses this device's frames;
* ``silence``: frames go out, and no receipt of any kind comes back;
* ``no_record``: frames are diagnosed, and none is recorded;
* ``busy``: the broker does not take as much as is offered.
"""

_ALARMS: dict[Reason, AlarmCode] = {
    "nobody_subscribes": "no_worker",
    "deserted": "no_worker",
    "refused": "refused",
    "silence": "unanswered",
    "no_record": "unanswered",
}
_PROBE_FIRST_S = 1.0
_PROBE_MAX_S = 30.0
_MAX_DOUBLINGS = 16


class Hold:
    """The reasons that stand, and the time of the next probe. One thread uses it.

    Args:
        alarms: Where a person is told.
        max_s: Upper bound of the pause between two probes.
        clock: Monotonic seconds.
        uniform: Uniform random number between two bounds, for the jitter.
    """

    def __init__(
        self,
        alarms: Alarms,
        *,
        max_s: float,
        clock: Callable[[], float],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._alarms = alarms
        self._max_s = min(max_s, _PROBE_MAX_S)
        self._clock = clock
        self._uniform = uniform
        self._reasons: dict[Reason, str] = {}
        self._probes = 0
        self._next_probe = 0.0

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def has(self, reason: Reason) -> bool:
        """Whether this reason stands."""
        return reason in self._reasons

    def put(self, reason: Reason, sentence: str = "") -> None:
        """Hold frames for a reason, and tell a person in ``sentence``."""
        new = reason not in self._reasons
        self._reasons[reason] = sentence
        if new and sentence:
            logger.error("%s", sentence)
        self._tell()

    def lift(self, *reasons: Reason) -> bool:
        """Take reasons back; returns whether frames were held and now flow again."""
        stood = [reason for reason in reasons if self._reasons.pop(reason, None) is not None]
        if not stood:
            return False
        self._tell()
        if self._reasons:
            return False
        self._probes = 0
        self._next_probe = 0.0
        return True

    # Probes

    @property
    def next_at(self) -> float:
        """When the next frame may go: long ago while nothing is held."""
        return self._next_probe if self._reasons else 0.0

    def probed(self) -> None:
        """Note that a frame has gone out as a probe: the next one waits, longer each time, with jitter."""
        self._probes += 1
        bound = min(self._max_s, _PROBE_FIRST_S * 2.0 ** min(self._probes - 1, _MAX_DOUBLINGS))
        self._next_probe = self._clock() + self._uniform(bound / 2, bound)

    def probe_now(self) -> None:
        """Let the next probe go at once: something has changed."""
        self._probes = 0
        self._next_probe = 0.0

    def _tell(self) -> None:
        """Raise one alarm for each kind of reason, in the words of the reason that has stood longest."""
        for code in dict.fromkeys(_ALARMS.values()):
            sentences = [text for reason, text in self._reasons.items() if _ALARMS.get(reason) == code]
            if sentences:
                self._alarms.raise_(code, sentences[0])
            else:
                self._alarms.clear(code)
