"""Reading a picture file that nobody has vouched for: checked before anything is decoded, stripped of metadata.

Sizes come from the file's own header, so that a decompression bomb is refused before a pixel of it exists. Metadata
(Exif, XMP, comments, colour profiles) is removed, because it may name a patient or an operator. References: ITU-T T.81
annex B (JPEG markers), the W3C PNG specification (third edition), RFC 9649 (WebP), the TIFF 6.0 specification.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from broker_config.messages import ImageEncoding
from edge_agent.cameras.base import Image, Original
from edge_agent.errors import UnreadableFrame

MAX_SIDE = 65_535
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"}
_FILL, _END_OF_IMAGE, _START_OF_SCAN = 0xFF, 0xD9, 0xDA
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_JPEG_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_BETWEEN_SCANS = {0xC4, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)}
_JPEG_DROPPED = {
    0xFE,
    *range(0xE1, 0xEE),
    0xEF,
}  # keeps JFIF (E0) and Adobe (EE): colours depend on the latter


@dataclass(frozen=True)
class Header:
    """What a file's header promises.

    Attributes:
        form: The format's name.
        width: Pixels.
        height: Pixels.
        stripped: The file without metadata, when its format can travel as it is (8 bits a sample).
        encoding: Its name on the wire, likewise.
    """

    form: str
    width: int
    height: int
    stripped: bytes | None = None
    encoding: ImageEncoding | None = None


def read_image(data: bytes, *, max_pixels: int) -> tuple[Image, Original | None]:
    """Decode a picture file.

    Args:
        data: The whole file.
        max_pixels: Largest width times height that is decoded.

    Returns:
        The image, height x width x 3, uint8, BGR; and the file without its metadata when it is JPEG, PNG or WebP of
        8 bits a sample.

    Raises:
        UnreadableFrame: With code ``file_empty``, ``file_not_an_image``, ``file_truncated``, ``file_corrupt`` or
            ``file_too_large``.
    """
    header = read_header(data)
    if not 1 <= header.width <= MAX_SIDE or not 1 <= header.height <= MAX_SIDE:
        raise UnreadableFrame(
            f"its {header.form} header says {header.width} x {header.height} pixels: a side must have 1 to {MAX_SIDE}",
            code="file_corrupt" if not header.width or not header.height else "file_too_large",
        )
    if header.width * header.height > max_pixels:
        raise UnreadableFrame(
            f"its {header.form} header says {header.width} x {header.height} pixels, more than max_pixels "
            f"({max_pixels}): it was not decoded; raise camera.max_pixels if such files are expected",
            code="file_too_large",
        )
    image = (
        _decode_jpeg(header.stripped)
        if header.encoding == "jpeg" and header.stripped
        else _decode(header, data)
    )
    if image.shape[:2] != (header.height, header.width):
        raise UnreadableFrame(
            f"its {header.form} header says {header.width} x {header.height} pixels and it holds "
            f"{image.shape[1]} x {image.shape[0]}: export it again from its source",
            code="file_corrupt",
        )
    original = None
    if header.stripped is not None and header.encoding is not None:
        original = Original(header.stripped, header.encoding)
    return image, original


def _decode_jpeg(data: bytes) -> Image:
    """Decode strictly. OpenCV fills what is damaged or missing with grey and lets it pass; so does a diagnosis."""
    import simplejpeg  # noqa: PLC0415 - loaded on first use, so that the agent's settings can be checked without it

    try:
        image: Image = simplejpeg.decode_jpeg(data, colorspace="BGR", strict=True)
    except ValueError as error:
        raise _corrupt("JPEG", str(error).removeprefix("Corrupt JPEG data: ")) from None
    return image


def _decode(header: Header, data: bytes) -> Image:
    import cv2  # noqa: PLC0415 - loaded on first use, likewise
    import numpy as np  # noqa: PLC0415

    try:
        image: Image | None = cv2.imdecode(
            np.frombuffer(header.stripped or data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableFrame(
            f"it is a {header.form} file that cannot be decoded: export it again from its source",
            code="file_corrupt",
        )
    return image


def read_header(data: bytes) -> Header:
    """Return what the file's header says, decoding nothing.

    Raises:
        UnreadableFrame: With code ``file_empty``, ``file_not_an_image``, ``file_truncated`` or ``file_corrupt``.
    """
    if not data:
        raise UnreadableFrame("it is empty: copy it again from its source", code="file_empty")
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(_PNG_SIGNATURE):
            return _png(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        if data.startswith((b"II*\x00", b"MM\x00*")):
            return _tiff(data)
        if data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
            return Header("BMP", width, abs(height))
    except (struct.error, IndexError):
        raise _truncated("picture") from None
    raise UnreadableFrame(
        "it is not a picture (JPEG, PNG, WebP, TIFF and BMP are read): remove it from the folder",
        code="file_not_an_image",
    )


def _truncated(form: str) -> UnreadableFrame:
    return UnreadableFrame(
        f"the {form} file ends before its end: copy it again from its source", code="file_truncated"
    )


def _corrupt(form: str, what: str) -> UnreadableFrame:
    return UnreadableFrame(
        f"the {form} file is damaged ({what}): copy it again from its source", code="file_corrupt"
    )


def _jpeg(data: bytes) -> Header:
    kept = [data[:2]]
    size: tuple[int, int] | None = None
    scan = 0
    for marker, start, end in _jpeg_segments(data):
        if marker in _JPEG_START_OF_FRAME:
            precision, height, width = struct.unpack_from(">BHH", data, start + 4)
            if precision != 8:  # noqa: PLR2004 - baseline and progressive: 8 bits
                raise _corrupt("JPEG", f"{precision} bits a sample")
            size = (width, height)
        if marker not in _JPEG_DROPPED:
            kept.append(data[start:end])
        scan = end
    if size is None:
        raise _corrupt("JPEG", "a scan before its frame header")
    kept.append(data[scan : _end_of_scans(data, scan)])
    return Header("JPEG", *size, stripped=b"".join(kept), encoding="jpeg")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment up to and including the first Start Of Scan."""
    position = 2
    while True:
        marker = data[position + 1]
        if data[position] != _FILL:
            raise _corrupt("JPEG", "no marker where one must be")
        if marker == _FILL:
            position += 1
            continue
        if marker == _END_OF_IMAGE or marker in _JPEG_STANDALONE:
            raise _corrupt("JPEG", "no scan in it")
        (length,) = struct.unpack_from(">H", data, position + 2)
        if length < 2:  # noqa: PLR2004 - the length counts its own two bytes
            raise _corrupt("JPEG", "a segment of no length")
        end = position + 2 + length
        if end > len(data):
            raise _truncated("JPEG")
        yield marker, position, end
        if marker == _START_OF_SCAN:
            return
        position = end


def _end_of_scans(data: bytes, position: int) -> int:
    """Return the position after End Of Image: in a scan, FF is stuffed or starts a marker (T.81, B.1.1.5)."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            raise _truncated("JPEG")
        marker = data[position + 1]
        if marker == _END_OF_IMAGE:
            return position + 2
        if marker == 0 or marker in _JPEG_STANDALONE:
            position += 2
        elif marker == _FILL:
            position += 1
        elif marker == _START_OF_SCAN or marker in _JPEG_BETWEEN_SCANS:
            if position + 4 > len(data):
                raise _truncated("JPEG")
            position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])
        else:
            raise _corrupt("JPEG", f"marker {marker:02X} inside a scan")


def _png(data: bytes) -> Header:
    kept = [_PNG_SIGNATURE]
    header: tuple[int, int, int] | None = None
    for kind, body in _png_chunks(data):
        if header is None:
            if kind != b"IHDR":
                raise _corrupt("PNG", "no header chunk")
            header = struct.unpack_from(">IIB", body)
        if kind in _PNG_KEPT:
            kept.append(
                struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            )
    if header is None:
        raise _truncated("PNG")
    width, height, depth = header
    travels = depth <= 8  # noqa: PLR2004 - bits a sample
    return Header(
        "PNG",
        width,
        height,
        stripped=b"".join(kept) if travels else None,
        encoding="png" if travels else None,
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_PNG_SIGNATURE)
    while True:
        if position + 12 > len(data):
            raise _truncated("PNG")
        (length,) = struct.unpack_from(">I", data, position)
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if end > len(data):
            raise _truncated("PNG")
        body = data[position + 8 : end - 4]
        if zlib.crc32(kind + body) != struct.unpack_from(">I", data, end - 4)[0]:
            raise _corrupt("PNG", "a checksum that does not match")
        yield kind, body
        if kind == b"IEND":
            return
        position = end


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise _truncated("WebP")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":  # extended: may hold metadata or animation, so it is decoded and encoded again
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return Header("WebP", width, height)
    else:
        raise _corrupt("WebP", "an unknown first chunk")
    return Header("WebP", width, height, stripped=data[: size + 8], encoding="webp")


def _tiff(data: bytes) -> Header:
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    found: dict[int, int] = {}
    for index in range(entries):
        tag, kind = struct.unpack_from(order + "HH", data, directory + 2 + 12 * index)
        if tag in (256, 257) and kind in (3, 4):
            (found[tag],) = struct.unpack_from(
                order + ("H" if kind == 3 else "I"),  # noqa: PLR2004 - TIFF types: 3 SHORT, 4 LONG
                data,
                directory + 10 + 12 * index,
            )
    if set(found) != {256, 257}:
        raise _corrupt("TIFF", "no size in it")
    return Header("TIFF", found[256], found[257])
