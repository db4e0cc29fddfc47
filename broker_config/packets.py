"""The PUBLISH packet: its MQTT 5 properties, and its size before it is sent."""

from paho.mqtt.properties import Properties

from broker_config.codec import CBOR
from broker_config.delivery import Publication


def publish_properties(publication: Publication, packet: int) -> Properties:
    """Return the MQTT 5 properties of a publication.

    Args:
        publication: The publication.
        packet: ``PacketTypes.PUBLISH`` or ``PacketTypes.WILLMESSAGE``.
    """
    properties = Properties(packet)
    properties.ContentType = publication.content_type
    if publication.content_type != CBOR:
        properties.PayloadFormatIndicator = 1  # UTF-8 text
    if publication.expiry_s is not None:
        properties.MessageExpiryInterval = publication.expiry_s
    if publication.correlation_data is not None:
        properties.CorrelationData = publication.correlation_data
    if publication.response_topic is not None:
        properties.ResponseTopic = publication.response_topic
    if publication.user_properties:
        properties.UserProperty = list(publication.user_properties)
    return properties


def packet_bytes(publication: Publication, properties: Properties | None) -> int:
    """Return the size in bytes of the PUBLISH packet (MQTT 5, section 3.3).

    Args:
        publication: The publication.
        properties: Its properties under MQTT 5, none under 3.1.1.
    """
    remaining = 2 + len(publication.topic.encode()) + len(publication.payload)
    remaining += 2 if publication.qos else 0
    remaining += len(properties.pack()) if properties is not None else 0
    length_bytes = 1
    while remaining >= 128**length_bytes:
        length_bytes += 1
    return 1 + length_bytes + remaining
