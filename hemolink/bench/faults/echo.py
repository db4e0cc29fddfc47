"""A client that hears frames, diagnoses and receipts, and says old ones again, shuffled: duplicates out of order."""

import random
import threading
from collections import deque

from broker_config.delivery import Publication
from broker_config.errors import SessionError
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from hemolink.bench.faults.broker import ECHO, ECHO_PASSWORD

_REMEMBERED = 400
_AGAIN = 60
_SAY_S = 10.0


class Echo:
    """Remembers messages of the plant and repeats some of them.

    It is connected only while it listens or speaks, so that frames which nobody else hears are not heard by it either.

    Args:
        seed: Of what is repeated and in which order.
    """

    def __init__(self, *, seed: int) -> None:
        self._random = random.Random(f"echo-{seed}")
        self._heard: deque[tuple[str, bytes]] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._port = 0
        self._round = 0
        self.said = 0

    def listen(self, port: int) -> None:
        """Connect to the broker and hear everything from now on."""
        self._port = port
        topics = Topics()
        filters = (topics.all_frames(), *(topics.all_of(kind) for kind in ("diagnosis", "receipt")))
        self._round += 1
        self._session = Session(
            BrokerSettings.model_validate(
                {"port": port, "username": ECHO, "password": ECHO_PASSWORD, "keepalive_s": 4}
            ),
            client_id=f"hemolink-{ECHO}-{self._round}",
            subscriptions=[Subscription(one) for one in filters],
            on_message=self._hear,
        )
        self._session.start()

    def speak(self) -> None:
        """Say a shuffled sample of what was ever heard again, then disconnect; on a thread of its own."""
        session, self._session = self._session, None
        if session is not None:
            threading.Thread(target=self._say, args=(session,), name="echo", daemon=True).start()

    def stop(self) -> None:
        """Disconnect. Safe to call at any time."""
        session, self._session = self._session, None
        if session is not None:
            session.stop(1.0)

    def _say(self, session: Session) -> None:
        with self._lock:
            heard = list(self._heard)
        chosen = self._random.sample(heard, min(_AGAIN, len(heard)))
        futures = [session.publish_soon(Publication(topic, payload)) for topic, payload in chosen]
        for future in futures:
            try:
                future.result(_SAY_S)
                self.said += 1
            except (SessionError, TimeoutError):
                break  # the broker is away: what was said was said
        session.stop(1.0)

    def _hear(self, message: IncomingMessage) -> None:
        with self._lock:
            self._heard.append((message.topic, bytes(message.payload)))
