"""Decoding of untrusted image bytes: the header is read, and the size judged, before any pixel is decoded."""

import struct
import zlib
from typing import Final, Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from model_zoo.errors import ImageError

MAX_PIXELS: Final = 64_000_000
"""Largest image, in pixels, that is decoded at all; a smear frame has 0.3 to 20 million."""

ImageFormat = Literal["jpeg", "png", "webp"]

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_FILL: Final = 0xFF  # starts every JPEG marker, and may stand before it any number of times
_REMEDY: Final = "capture or export the frame again as JPEG, PNG or WebP"


def image_format(data: bytes) -> ImageFormat:
    """Tell the format by its signature.

    Raises:
        ImageError: If `data` is empty or starts like none of JPEG, PNG and WebP.
    """
    if not data:
        msg = f"the file is empty (0 bytes): {_REMEDY}"
        raise ImageError(msg)
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == _PNG_SIGNATURE:
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    msg = f"not a JPEG, PNG or WebP image (it starts with {data[:8].hex(' ')}): {_REMEDY}"
    raise ImageError(msg)


def image_size(data: bytes) -> tuple[int, int]:
    """Read width and height in pixels from the header, decoding nothing.

    Raises:
        ImageError: If the header is missing, cut short or malformed.
    """
    readers = {"jpeg": _jpeg_size, "png": _png_size, "webp": _webp_size}
    name = image_format(data)
    try:
        width, height = readers[name](data)
    except (IndexError, struct.error) as error:
        msg = f"the {name.upper()} header is cut short ({len(data)} bytes in all): {_REMEDY}"
        raise ImageError(msg) from error
    if width <= 0 or height <= 0:
        msg = f"the {name.upper()} header states a size of {width} x {height} pixels: {_REMEDY}"
        raise ImageError(msg)
    return width, height


def decode_image(
    data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP image.

    Args:
        data: The file's bytes, from whoever sent them.
        max_pixels: Images whose header states more pixels are refused before decoding.
        at_least: Width and height in pixels that suffice. A JPEG at least four times as large on both sides is
            decoded at a half, a quarter or an eighth of its size (still at least twice `at_least`), which is far
            cheaper.

    Returns:
        An array (H, W, 3) of uint8, channels blue, green, red.

    Raises:
        ImageError: If the bytes are empty, of another format, truncated, corrupt or too large when decoded.
    """
    width, height = image_size(data)
    if width * height > max_pixels:
        msg = (
            f"the header states {width} x {height} pixels, more than the limit of {max_pixels:,}: "
            "send single frames, not whole-slide images"
        )
        raise ImageError(msg)
    name = image_format(data)
    _refuse_truncated(data, name)
    flags = cv2.IMREAD_COLOR
    if name == "jpeg" and at_least is not None:
        flags = _reduction(min(width // at_least[0], height // at_least[1]))
    if name == "jpeg" and flags == cv2.IMREAD_COLOR:
        return _decode_jpeg(data)
    try:
        # As the pixels lie in the file: the edge strips the orientation, and sizes are compared with the header.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        msg = f"the {name.upper()} data are corrupt: {_REMEDY}"
        raise ImageError(msg) from error
    if image is None:
        msg = f"the {name.upper()} data are corrupt: {_REMEDY}"
        raise ImageError(msg)
    return np.asarray(image, np.uint8)


def _decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Decode strictly: OpenCV fills what is damaged with grey and lets it pass."""
    try:
        image = simplejpeg.decode_jpeg(data, colorspace="BGR", strict=True)
    except ValueError as error:
        msg = f"the JPEG data are corrupt ({str(error).removeprefix('Corrupt JPEG data: ')}): {_REMEDY}"
        raise ImageError(msg) from error
    return np.asarray(image, np.uint8)


def _reduction(factor: int) -> int:
    if factor >= 16:  # noqa: PLR2004
        return cv2.IMREAD_REDUCED_COLOR_8
    if factor >= 8:  # noqa: PLR2004
        return cv2.IMREAD_REDUCED_COLOR_4
    if factor >= 4:  # noqa: PLR2004
        return cv2.IMREAD_REDUCED_COLOR_2
    return cv2.IMREAD_COLOR


def _jpeg_segments(data: bytes, *, to_scan: bool) -> tuple[tuple[int, int] | None, int | None]:
    """Walk the marker segments (ITU-T T.81, B.1.1): size from the frame header, and where the first scan starts.

    Without `to_scan` the walk ends at the frame header, so that a giant is known as one whatever follows.
    """
    size: tuple[int, int] | None = None
    position = 2
    while position + 4 <= len(data):
        if data[position] != _FILL:
            msg = f"the JPEG header is malformed at byte {position}: {_REMEDY}"
            raise ImageError(msg)
        marker = data[position + 1]
        if marker == _FILL:
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # standalone markers carry no length  # noqa: PLR2004
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # noqa: PLR2004
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
            if not to_scan:
                return size, None
        if marker == 0xDA:  # noqa: PLR2004
            return size, position
        position += 2 + max(length, 2)
    return size, None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size, _ = _jpeg_segments(data, to_scan=False)
    if size is None:
        msg = f"the JPEG has no frame header (cut short at {len(data)} bytes?): {_REMEDY}"
        raise ImageError(msg)
    return size


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(data[24:27], "little") if len(data) >= 30 else 0,  # noqa: PLR2004
            1 + int.from_bytes(data[27:30], "little"),
        )
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    msg = f"the WebP chunk {kind!r} is not known: {_REMEDY}"
    raise ImageError(msg)


def _refuse_truncated(data: bytes, name: ImageFormat) -> None:
    """Decoders fill what is missing with grey and say nothing; a frame with a grey half must not be diagnosed."""
    if name == "jpeg":
        _, scan = _jpeg_segments(data, to_scan=True)
        complete = scan is not None and data.rfind(b"\xff\xd9") > scan
    elif name == "png":
        complete = _png_complete(data)
    else:
        complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if not complete:
        msg = f"the {name.upper()} data end early or are damaged ({len(data)} bytes): {_REMEDY}"
        raise ImageError(msg)


def _png_complete(data: bytes) -> bool:
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            return False
        (stated,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(data[position + 4 : end - 4]) != stated:
            return False
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position = end
    return False
