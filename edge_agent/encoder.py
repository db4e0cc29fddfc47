"""Encodes a field of view for the wire: JPEG, PNG or WebP, and smaller when a broker takes no larger."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from broker_config.delivery import publication
from broker_config.messages import Frame, ImageEncoding
from broker_config.settings import Section
from edge_agent.cameras.base import Image, RawFrame
from edge_agent.errors import EncodingFailed

_SMALLER_QUALITIES = (85, 75, 65, 50)
_LOSSLESS_WEBP = 101  # OpenCV: above 100 is lossless


class EncodingSettings(Section):
    """How pictures are encoded."""

    format: ImageEncoding = Field(
        "jpeg", description="jpeg, png (lossless) or webp (lossless at quality 100)"
    )
    quality: int = Field(92, ge=1, le=100, description="of JPEG and WebP")
    keep_original: bool = Field(
        default=True,
        description="send a JPEG, PNG or WebP file as it is (metadata removed) rather than encode it again",
    )


@dataclass(frozen=True)
class Encoded:
    """An encoded image."""

    data: bytes = field(repr=False)
    encoding: ImageEncoding


def encode_frame(frame: RawFrame, settings: EncodingSettings) -> Encoded:
    """Return a frame's image encoded as the settings say.

    Raises:
        EncodingFailed: If OpenCV cannot encode it.
    """
    if frame.original is not None and settings.keep_original:
        return Encoded(frame.original.data, frame.original.encoding)
    return Encoded(_encode(frame.image, settings.format, settings.quality), settings.format)


def encode_within(data: bytes, *, limit_bytes: int) -> Encoded:
    """Encode an already encoded image again as JPEG, in steps of lower quality, until it fits.

    Args:
        data: JPEG, PNG or WebP.
        limit_bytes: Largest result.

    Raises:
        EncodingFailed: If it cannot be decoded, or does not fit even at the lowest quality worth a diagnosis.
    """
    import cv2  # noqa: PLC0415 - loaded on first use
    import numpy as np  # noqa: PLC0415

    image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise EncodingFailed("the spooled image cannot be decoded, so it cannot be made smaller")
    smallest = 0
    for quality in _SMALLER_QUALITIES:
        encoded = _encode(image, "jpeg", quality)
        if len(encoded) <= limit_bytes:
            return Encoded(encoded, "jpeg")
        smallest = len(encoded)
    raise EncodingFailed(
        f"the image still has {smallest} bytes at JPEG quality {_SMALLER_QUALITIES[-1]}, and the broker takes "
        f"{limit_bytes}: raise the broker's max_packet_size"
    )


def _encode(image: Image, encoding: ImageEncoding, quality: int) -> bytes:
    import cv2  # noqa: PLC0415 - loaded on first use

    if encoding == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif encoding == "webp":
        options = [cv2.IMWRITE_WEBP_QUALITY, quality if quality < 100 else _LOSSLESS_WEBP]  # noqa: PLR2004
    else:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 3]
    suffix = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}[encoding]
    try:
        ok, data = cv2.imencode(suffix, image, options)
    except cv2.error as error:
        raise EncodingFailed(
            f"an image of shape {image.shape} cannot be encoded as {encoding}: {error.err}"
        ) from None
    if not ok:
        raise EncodingFailed(f"an image of shape {image.shape} cannot be encoded as {encoding}")
    return bytes(data)


def smaller_frame(frame: Frame, image: bytes) -> bytes:
    """Return the payload of a frame with a smaller JPEG image in place of its own, saying so in its quality flags."""
    flags = tuple(dict.fromkeys((*frame.quality.flags, "reencoded")))
    changed = frame.model_copy(
        update={
            "image": image,
            "encoding": "jpeg",
            "image_sha256": hashlib.sha256(image).hexdigest(),
            "quality": frame.quality.model_copy(update={"flags": flags}),
        }
    )
    return publication("", changed).payload
