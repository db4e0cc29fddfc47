"""The publishes in flight on one connection: as many as the broker takes, each with the future of its acknowledgement."""

from concurrent.futures import Future
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from broker_config import reasons
from broker_config.delivery import Publication
from broker_config.errors import NotConnected, PayloadTooLarge, PublishRefused
from broker_config.mailbox import Outgoing
from broker_config.packets import PackedProperties, packet_bytes
from broker_config.paho_client import LinkOptions
from broker_config.traffic import PublishResult

RECEIVE_MAXIMUM_3_1_1 = 20
"""How many publishes to have in flight where the broker cannot say (MQTT 3.1.1); Mosquitto's own default."""

_MAX_PACKET_BYTES = 268_435_460  # fixed header and the largest remaining length (MQTT 5, section 1.5.5)
_STALL_S = 60.0


class Window:
    """What was sent and is not acknowledged.

    Any thread may call `prepare`; all else belongs to the network thread.

    Args:
        options: How the session connects.

    Attributes:
        receive_maximum: How many publishes may be in flight.
        maximum_packet_bytes: Largest packet the broker takes, or none if it did not say and no setting does.
    """

    def __init__(self, options: LinkOptions) -> None:
        self._broker = options.broker
        self._v5 = options.v5
        self._max_inflight = options.max_inflight
        self._inflight: dict[int, Outgoing] = {}
        self._progress_at = 0.0
        self.receive_maximum = min(RECEIVE_MAXIMUM_3_1_1, options.max_inflight)
        self.maximum_packet_bytes = options.broker.max_packet_bytes

    def announce(self, properties: Any) -> None:
        """Take over the limits that the broker named in CONNACK (MQTT 5, section 3.2.2.3)."""
        if not self._v5:
            return
        announced = getattr(properties, "ReceiveMaximum", 65_535)
        self.receive_maximum = min(announced, self._max_inflight)
        packet = getattr(properties, "MaximumPacketSize", None)
        limits = [limit for limit in (packet, self._broker.max_packet_bytes) if limit is not None]
        self.maximum_packet_bytes = min(limits) if limits else None

    def prepare(self, publication: Publication) -> Outgoing:
        """Return the publication ready to be sent, or with its future failed if the broker would not take it."""
        future: Future[PublishResult] = Future()
        properties = PackedProperties.of(publication) if self._v5 else None
        size = packet_bytes(publication, properties)
        limit = self.maximum_packet_bytes or _MAX_PACKET_BYTES
        if size > limit:
            future.set_exception(
                PayloadTooLarge(
                    f"a packet of {size} bytes for {publication.topic}, and the broker at "
                    f"{reasons.address(self._broker)} takes {limit}: send a smaller image, or raise the "
                    "broker's limit; nothing was sent"
                )
            )
        return Outgoing(publication, properties, future)

    @property
    def has_room(self) -> bool:
        """Whether one more may be sent."""
        return len(self._inflight) < self.receive_maximum

    def send(self, client: Client, outgoing: Outgoing, now: float) -> None:
        """Give one publication to paho."""
        publication = outgoing.publication
        try:
            info = client.publish(
                publication.topic,
                publication.payload,
                publication.qos,
                publication.retain,
                outgoing.properties,
            )
        except ValueError as error:
            outgoing.future.set_exception(
                PublishRefused(
                    f"{publication.topic!r:.200} cannot be published ({error}): use broker_config.topics",
                    reason_code=reasons.TOPIC_NAME_INVALID,
                )
            )
            return
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            outgoing.future.set_exception(
                NotConnected("the connection to the broker has just ended: publish again")
            )
        elif publication.qos == 0:
            outgoing.future.set_result(PublishResult())
        else:
            if not self._inflight:
                self._progress_at = now
            self._inflight[info.mid] = outgoing

    def acknowledge(self, mid: int, reason: Any, now: float) -> None:
        """Settle the publication that a PUBACK names."""
        is_oldest = next(iter(self._inflight), None) == mid
        outgoing = self._inflight.pop(mid, None)
        if outgoing is None:
            return
        if is_oldest:  # acknowledgements come in order (MQTT 5, section 4.6); one passed over may never come
            self._progress_at = now
        code = int(reason.value)
        if code < reasons.FAILURE:
            outgoing.future.set_result(PublishResult(code))
            return
        remedy = (
            "allow it in the broker's access rules ('hemolink broker acl' prints them)"
            if code == reasons.NOT_AUTHORIZED
            else "look at the broker's log"
        )
        outgoing.future.set_exception(
            PublishRefused(
                f"the broker refused a publish to {outgoing.publication.topic}: {str(reason).lower()} "
                f"(0x{code:02X}): {remedy}",
                reason_code=code,
            )
        )

    def progressed(self, now: float) -> None:
        """Note that the packet being written moved on; the older ones are written and wait for their answer."""
        if len(self._inflight) <= 1:
            self._progress_at = now

    def stall_at(self) -> float:
        """Return when to give up a broker that answers pings and acknowledges nothing."""
        if not self._inflight:
            return float("inf")
        return self._progress_at + max(_STALL_S, 4 * self._broker.publish_timeout_s)

    def fail(self, unsent: list[Outgoing], cause: str) -> None:
        """Fail everything in flight, and what was never sent."""
        left = [*self._inflight.values(), *unsent]
        self._inflight.clear()
        for outgoing in left:
            outgoing.fail(
                NotConnected(
                    f"no acknowledgement for {outgoing.publication.topic}: the connection ended "
                    f"({cause}); it may or may not have arrived: publish again"
                )
            )
