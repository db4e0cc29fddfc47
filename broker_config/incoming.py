"""A message as the library brings it, made into one of ours."""

import threading
from collections.abc import Callable

from paho.mqtt.client import MQTTMessage

from broker_config.traffic import IncomingMessage


def incoming_message(
    message: MQTTMessage, acknowledge: Callable[[int], bool] | None = None
) -> IncomingMessage:
    """Return the message.

    Args:
        message: What paho has received.
        acknowledge: Acknowledges a packet identifier on the connection that delivered it; none where that happens by
            itself.
    """
    properties, mid = message.properties, message.mid
    once = None
    if acknowledge is not None and message.qos > 0:
        once = _Once(lambda: acknowledge(mid))
    return IncomingMessage(
        topic=message.topic,
        payload=bytes(message.payload),
        qos=message.qos,
        retain=bool(message.retain),
        duplicate=bool(message.dup),
        correlation_data=getattr(properties, "CorrelationData", None),
        response_topic=getattr(properties, "ResponseTopic", None),
        content_type=getattr(properties, "ContentType", None),
        user_properties=tuple((name, value) for name, value in getattr(properties, "UserProperty", ())),
        _acknowledge=once,
    )


class _Once:
    """Calls a function the first time, and remembers its result."""

    def __init__(self, function: Callable[[], bool]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._result: bool | None = None

    def __call__(self) -> bool:
        with self._lock:
            if self._result is None:
                self._result = self._function()
            return self._result
