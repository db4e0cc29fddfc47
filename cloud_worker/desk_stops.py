"""Which model versions the desk has stopped, as its retained message says: what they answer is referred to a person.

A worker with a stopped model goes on: a frame that nobody takes would wait in silence, and a referred one is read. The
record leaves such answers out by itself; this says it to everybody else who hears a diagnosis.
"""

import logging
from collections.abc import Mapping
from datetime import datetime

from broker_config.codec import decode
from broker_config.errors import DecodeError
from broker_config.fleet_messages import FleetStops, ModelStop
from broker_config.messages import ModelIdentity, now

logger = logging.getLogger(__name__)

CODE = "model_stopped"
_SHOWN = 200


class DeskStops:
    """Keeps the latest list. The network thread calls `note`, any thread the rest.

    Attributes:
        serves: What this worker serves.
    """

    def __init__(self) -> None:
        self.serves: ModelIdentity | None = None
        self._stops: Mapping[str, ModelStop] = {}
        self._at: datetime | None = None

    def note(self, payload: bytes) -> str:
        """Take in a list; returns what became of the message: ``taken``, ``stale``, or why it cannot be read.

        What cannot be read changes nothing: the last list that could be read stays in force.
        """
        try:
            told = decode(payload, FleetStops)
        except DecodeError as error:
            logger.warning(
                "the list of stopped models cannot be read, the last one stays in force: %s", error
            )
            return error.code
        if self._at is not None and told.at < self._at:
            return "stale"
        self._at = min(told.at, now())  # a clock that is ahead must not outlast what is said later
        before = self.stop
        self._stops = {one.weights_sha256: one for one in told.stops}
        self._say(before)
        return "taken"

    @property
    def stop(self) -> ModelStop | None:
        """The stop of the model that this worker serves; none while its answers may be used."""
        return self._stops.get(self.serves.weights_sha256) if self.serves is not None else None

    @property
    def sentence(self) -> str:
        """Why every frame is referred; empty while the model's answers may be used."""
        stop = self.stop
        if stop is None:
            return ""
        why = " ".join(stop.reason.split())[:_SHOWN].rstrip(". ")
        return (
            f"the desk has stopped {stop.name[:_SHOWN]} {stop.version[:_SHOWN]} at {stop.stopped_at:%Y-%m-%d %H:%M} UTC"
            f"{f' ({why})' if why else ''}: its answer is not to be used, and a person reads this frame."
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is added to the reasons to refer of every frame; empty while the model's answers may be used."""
        sentence = self.sentence
        return (f"{CODE}: {sentence}",) if sentence else ()

    def _say(self, before: ModelStop | None) -> None:
        stop, serves = self.stop, self.serves
        if serves is None or (stop is None) == (before is None):
            return
        if stop is None:
            logger.warning("the desk lets %s %s answer again", serves.name, serves.version)
        else:
            logger.warning(
                "the desk has stopped %s %s: every frame is referred from now on; serve another package and restart",
                serves.name,
                serves.version,
            )
