"""A frame larger than the broker takes: encoded again, smaller, or kept for a person.

An image that may have been published must never change under its id: the record may hold the first one, and would rightly
refuse the second. So only a frame that has certainly not left this machine is encoded again.
"""

from broker_config.codec import decode
from broker_config.errors import DecodeError
from broker_config.messages import Frame
from edge_agent.encoder import encode_within, smaller_frame
from edge_agent.errors import EncodingFailed

_OVERHEAD_BYTES = 2048  # topic, properties and the frame's fields other than the image


def smaller_payload(payload: bytes, *, limit_bytes: int | None) -> bytes:
    """Return the frame's payload with its image encoded again so that it fits.

    Args:
        payload: The encoded frame.
        limit_bytes: Largest packet that the broker takes; half of the payload's size where it did not say.

    Raises:
        EncodingFailed: If it cannot be decoded, or does not fit even at the lowest quality worth a diagnosis.
    """
    limit = limit_bytes or len(payload) // 2
    try:
        frame = decode(payload, Frame)
    except DecodeError as error:
        raise EncodingFailed(f"the spooled frame cannot be decoded: {error}") from None
    smaller = smaller_frame(frame, encode_within(frame.image, limit_bytes=limit - _OVERHEAD_BYTES).data)
    if len(smaller) >= len(payload):
        raise EncodingFailed(
            f"the frame has {len(payload)} bytes and cannot be encoded smaller, and the broker takes {limit}: raise the "
            "broker's max_packet_size"
        )
    return smaller
