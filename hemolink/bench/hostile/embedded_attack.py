"""The embedded broker under raw bytes, while two honest clients talk through it."""

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from broker_config.delivery import Publication
from broker_config.errors import SessionError
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from hemolink.bench.hostile.site import READY_S, STOP_S, Watched, faults_in_log, resident_mb
from hemolink.bench.hostile.wire import Vandal
from hemolink.child import Child

TOPIC = "honest/talk"
STRIKES_A_WORD = 5
MAX_GROWTH_MB = 48.0


def attack(
    directory: Path, *, strikes: int, seed: int, blame: Callable[[str], None], stopping: Callable[[], bool]
) -> dict[str, Any]:
    """Strike at an embedded broker.

    Args:
        directory: Where its files go.
        strikes: How many connections to misbehave on.
        seed: Seed of what is done.
        blame: Told of what is wrong.
        stopping: Whether the user has had enough.

    Returns:
        ``strikes``, ``words_sent``, ``words_heard``, ``rss_mb_before`` and ``rss_mb_after``.
    """
    home = directory / "embedded"
    child = Child(
        "embedded",
        module="hemolink.bench.hostile.embedded_host",
        settings={"directory": str(home)},
        directory=directory,
    )
    watched = Watched(child, home)
    child.start()
    try:
        child.wait_ready(timeout_s=READY_S, stopping=stopping)
        if stopping():
            return {}
        return _strike(watched, strikes=strikes, seed=seed, blame=blame, stopping=stopping)
    finally:
        child.stop(timeout_s=STOP_S)
        for fault in faults_in_log(watched.new_log()):
            blame(f"the embedded broker's log holds {fault}")


class _Talk:
    """Two honest clients: one says numbers, the other must hear each."""

    def __init__(self, port: int) -> None:
        broker = BrokerSettings(port=port, protocol="3.1.1", reconnect_max_s=0.5)
        self._changed = threading.Condition()
        self._heard: set[bytes] = set()
        self._listener = Session(
            broker, client_id="listener", subscriptions=(Subscription(TOPIC),), on_message=self._take
        )
        self._speaker = Session(broker, client_id="speaker")
        self.said = 0

    def begin(self) -> None:
        """Connect both."""
        self._listener.connect()
        self._speaker.connect()

    def say(self) -> None:
        """Say the next number, and return when the broker has it."""
        self._speaker.publish(Publication(TOPIC, str(self.said).encode()), timeout_s=10)
        self.said += 1

    def heard(self) -> int:
        """Return how many numbers were heard, all of them if they come within some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._heard) >= self.said, 10)
            return len(self._heard)

    @property
    def interrupted(self) -> bool:
        """Whether one of the two had to connect again."""
        return self._listener.connections > 1 or self._speaker.connections > 1

    def end(self) -> None:
        """Hang up both."""
        self._speaker.stop(2.0)
        self._listener.stop(2.0)

    def _take(self, message: IncomingMessage) -> None:
        with self._changed:
            self._heard.add(message.payload)
            self._changed.notify_all()


def _strike(
    watched: Watched, *, strikes: int, seed: int, blame: Callable[[str], None], stopping: Callable[[], bool]
) -> dict[str, Any]:
    port = watched.child.ports()["broker"]
    talk, vandal = _Talk(port), Vandal(port, Random(f"{seed}/wire"))
    heard, name, memory = 0, "nothing", [resident_mb(watched.pid)]
    try:
        talk.begin()
        for number in range(strikes):
            name = vandal.strike()
            if number % STRIKES_A_WORD == 0:
                talk.say()
                memory.append(resident_mb(watched.pid))
            if stopping():
                break
        heard = talk.heard()
    except SessionError as error:
        blame(f"the embedded broker serves honest clients no more after {name!r}: {error}")
    finally:
        vandal.close()
        talk.end()
    if words := watched.dead():
        blame(f"the embedded broker ended after {name!r}: {words}")
    if talk.interrupted:
        blame("the embedded broker dropped an honest client")
    if heard < talk.said:
        blame(f"the embedded broker lost {talk.said - heard} of {talk.said} messages between honest clients")
    before, after = memory[len(memory) // 5], memory[-1]
    if after - before > MAX_GROWTH_MB:
        blame(f"the embedded broker grew by {after - before:.0f} MB under {strikes} strikes")
    return {
        "strikes": strikes,
        "words_sent": talk.said,
        "words_heard": heard,
        "rss_mb_before": round(before, 1),
        "rss_mb_after": round(after, 1),
    }
