"""What passes between a session and its user: subscriptions, messages that came, acknowledgements of a publish."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from broker_config import reasons


@dataclass(frozen=True)
class Subscription:
    """What to subscribe to.

    Attributes:
        topic_filter: Topic filter; one that begins with ``$share/`` needs MQTT 5.
        qos: Highest quality of service to be delivered at.
        no_local: Do not deliver what this session publishes itself (MQTT 5).
        retain_as_published: Deliver the retain flag as it was published (MQTT 5).
        required: Whether the session is of no use without it. A broker that refuses one that is not is told of in
            the log, and the connection stands.
    """

    topic_filter: str
    qos: int = 1
    no_local: bool = False
    retain_as_published: bool = False
    required: bool = True


@dataclass(frozen=True)
class PublishResult:
    """The broker's acknowledgement of a publish.

    Attributes:
        reason_code: MQTT 5 reason code; 0 under 3.1.1, which has none.
    """

    reason_code: int = 0

    @property
    def no_subscribers(self) -> bool:
        """Whether the broker said that nobody subscribes to the topic (0x10; MQTT 5 only)."""
        return self.reason_code == reasons.NO_MATCHING_SUBSCRIBERS


@dataclass(frozen=True)
class IncomingMessage:
    """One message from the broker.

    Attributes:
        topic: Topic name.
        payload: The bytes as they came.
        retain: Whether it was retained by the broker before this session subscribed.
        duplicate: Whether the broker has sent it before.
        received_at: `time.monotonic` when it came.
    """

    topic: str
    payload: bytes = field(repr=False)
    qos: int = 1
    retain: bool = False
    duplicate: bool = False
    correlation_data: bytes | None = None
    response_topic: str | None = None
    content_type: str | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    received_at: float = field(default_factory=time.monotonic)
    _acknowledge: Callable[[], bool] | None = field(default=None, repr=False, compare=False)

    def acknowledge(self) -> bool:
        """Tell the broker that the work is done. Any thread may call it; a second call does nothing.

        Returns:
            False when the connection that delivered the message is gone: the broker then counts it as undelivered
            and, if it kept the session, delivers it again. True also for a message that needs no acknowledgement.
        """
        return self._acknowledge() if self._acknowledge is not None else True
