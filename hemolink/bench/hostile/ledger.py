"""What was sent to each daemon beside what each daemon counted, by reason: nothing may vanish between the two.

A tap at the broker hears every message, hostile or not, and knows from the topic who subscribes to it. Each daemon says in
its metrics what became of every message that it was given. At a quiet moment the two figures are equal, or a message was
passed over without a trace.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from broker_config.codec import decode
from broker_config.delivery import DELIVERY
from broker_config.errors import DecodeError, TopicError
from broker_config.topics import Topics
from hemolink.bench.hostile.honest import TYPES
from hemolink.bench.hostile.mqtt import Listener
from hemolink.bench.hostile.shot import DEVICE, ROOT, SITE
from hemolink.errors import NotReady

DAEMONS = ("worker", "record", "edge")
COUNTERS = {
    "worker": "hemolink_worker_messages",
    "record": "hemolink_dashboard_messages",
    "edge": "hemolink_edge_messages",
}
"""What each daemon counts its messages in, by kind and outcome; the worker its frames apart from it."""

MARK_TOPIC = f"{ROOT}/v1/-/mark"
_SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')

_PLAIN = {
    f"hemolink_worker_{reason}_total": reason
    for reason in ("diagnosed", "overflow", "abandoned", "joined", "lapsed")
}
"""Counters of frames that bear no further label."""

Samples = list[tuple[str, dict[str, str], float]]


_TOPICS = Topics(ROOT)
FILTERS = {
    "worker": (_TOPICS.all_frames(), _TOPICS.fleet_model(), _TOPICS.fleet_stops()),
    "record": (
        _TOPICS.all_frames(),
        _TOPICS.all_of("diagnosis"),
        _TOPICS.all_of("rejected"),
        _TOPICS.all_of("state"),
        _TOPICS.fleet_model(),
    ),
    "edge": (
        _TOPICS.receipt(SITE, DEVICE),
        _TOPICS.commands_to(SITE, DEVICE),
        _TOPICS.all_worker_states(),
        _TOPICS.state(SITE, DEVICE),
    ),
}
"""What each daemon subscribes to."""


def receivers(topic: str) -> tuple[str, ...]:
    """Return which daemons subscribe to a topic."""
    levels = topic.split("/")
    return tuple(role for role, filters in FILTERS.items() if any(_matches(one, levels) for one in filters))


def _matches(topic_filter: str, levels: list[str]) -> bool:
    wanted = topic_filter.split("/")
    return len(wanted) == len(levels) and all(
        one in ("+", level) for one, level in zip(wanted, levels, strict=True)
    )


MALFORMED = frozenset(
    {
        *("empty", "not_json", "not_cbor", "not_a_map", "invalid_field", "unknown_version", "too_large"),
        *("unknown_topic", "wrong_topic", "retained", "joined"),
    }
)
"""Reasons under which a message may stand that the contract cannot read; joined: the same one again while in hand."""


def is_malformed(topic: str, payload: bytes) -> bool:
    """Return whether the contract refuses a message: its topic, or what it holds."""
    try:
        kind = _TOPICS.parse(topic).kind
        if payload or not DELIVERY[kind].retain:  # nothing at all clears what a broker retains
            decode(payload, TYPES[kind])
    except (DecodeError, TopicError):
        return True
    return False


def parse(text: str) -> Samples:
    """Return the samples of a Prometheus page: name, labels, value."""
    found: Samples = []
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match is not None:
            found.append((match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"])))
    return found


def outcomes(role: str, samples: Samples) -> Counter[str]:
    """Return what became of every message that a daemon was given: how many by reason.

    Args:
        role: One of `DAEMONS`.
        samples: Its metrics.
    """
    found: Counter[str] = Counter()
    for name, labels, value in samples:
        reason = None
        match role, name:
            case "worker", "hemolink_worker_rejected_total":
                reason = labels["code"]
            case "worker", _ if name in _PLAIN:
                reason = _PLAIN[name]
            case _ if name == f"{COUNTERS[role]}_total":
                reason = labels["outcome"] if labels["outcome"] != "taken" else f"taken: {labels['kind']}"
        if reason is not None and value:
            found[reason] += int(value)
    return found


class Tap:
    """Hears everything below the root, and counts it for whom it is.

    Args:
        port: The broker's port.
    """

    def __init__(self, port: int) -> None:
        self._listener = Listener(port, "fuzz-tap", take=self._take)
        self._changed = threading.Condition()
        self._heard: Counter[str] = Counter()
        self._last_mark = b""

    def start(self) -> None:
        """Connect and subscribe.

        Raises:
            BrokerHungUp: If the broker does not take it in.
        """
        self._listener.open()
        self._listener.subscribe(f"{ROOT}/#")

    def stop(self) -> None:
        """Hang up."""
        self._listener.close()

    def _take(self, topic: str, payload: bytes) -> None:
        with self._changed:
            if topic == MARK_TOPIC:
                self._last_mark = payload
                self._changed.notify_all()
                return
            for role in receivers(topic):
                self._heard[role] += 1

    def heard(self) -> Counter[str]:
        """Return how many messages the broker has passed on for each daemon."""
        with self._changed:
            return Counter(self._heard)

    def wait_mark(self, mark: bytes, timeout_s: float = 20.0) -> bool:
        """Wait until a mark was heard, and with it everything that was published before it."""
        with self._changed:
            return self._changed.wait_for(lambda: self._last_mark == mark, timeout_s)


class Ledger:
    """Compares the two accounts.

    Args:
        tap: What the broker passed on.
        read: Returns a daemon's metrics as text.
    """

    def __init__(self, tap: Tap, read: Callable[[str], str]) -> None:
        self._tap = tap
        self._read = read
        self._first: dict[str, Counter[str]] = {}
        self._offset: Counter[str] = Counter()
        self.unaccounted: Counter[str] = Counter()

    def open(self) -> None:
        """Begin to compare: from now on every message must be counted.

        Raises:
            NotReady: If a daemon has no counter of its messages.
        """
        for role, counter in COUNTERS.items():
            if counter not in self._read(role):
                raise NotReady(f"the {role} has no counter {counter}: nothing can be compared with it")
        self._first = {role: outcomes(role, parse(self._read(role))) for role in DAEMONS}
        heard = self._tap.heard()
        for role in DAEMONS:
            self._offset[role] = self._first[role].total() - heard[role]

    def reasons(self, role: str) -> Counter[str]:
        """Return what the daemon counted since `open`, by reason."""
        return outcomes(role, parse(self._read(role))) - self._first[role]

    def heard(self, role: str) -> int:
        """Return how many messages the broker has passed on for a daemon since `open`."""
        return self._tap.heard()[role] + self._offset[role] - self._first[role].total()

    def _gap(self, role: str) -> int:
        counted = outcomes(role, parse(self._read(role))).total()
        return self._tap.heard()[role] + self._offset[role] - counted - self.unaccounted[role]

    def settle(self, *, timeout_s: float) -> Mapping[str, int]:
        """Wait until every daemon has counted what it was given.

        Returns:
            How many messages vanished, by daemon: empty when the accounts agree. What vanished is written off, so that
            the next round begins even.
        """
        deadline = time.monotonic() + timeout_s
        open_ = list(DAEMONS)
        while True:
            gaps = {role: gap for role in open_ if (gap := self._gap(role)) > 0}
            open_ = list(gaps)
            if not gaps or time.monotonic() > deadline:
                self.unaccounted.update(gaps)
                return gaps
            time.sleep(0.03)
