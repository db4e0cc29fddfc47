"""Frames that are well formed, and whose image is broken, a bomb, or not what the frame states."""

import hashlib
import struct
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from hemolink.bench.hostile import honest
from hemolink.bench.hostile.shot import PAYLOAD_MARK, Shot

FAMILY = "images"

Case = tuple[bytes, str, int, int]
"""Image bytes, and what the frame states: encoding, width, height."""


@cache
def picture(encoding: str, number: int) -> bytes:
    """Return a valid 64 x 48 picture of coarse noise; ``number`` is its seed."""
    import cv2  # noqa: PLC0415 - a heavy import, here alone
    import numpy as np  # noqa: PLC0415

    small = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    _, data = cv2.imencode(f".{encoding}", cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC))
    return bytes(data)


@cache
def special(name: str) -> bytes:
    """Return a picture of an unusual kind: ``grey``, ``alpha``, ``16-bit``, ``progressive``, ``1x1``."""
    import cv2  # noqa: PLC0415 - a heavy import, here alone
    import numpy as np  # noqa: PLC0415

    noise = np.random.default_rng(5).integers(0, 256, (48, 64, 4), dtype=np.uint8)
    form, image, options = {
        "grey": (".jpeg", noise[:, :, 0], []),
        "alpha": (".png", noise, []),
        "16-bit": (".png", noise[:, :, :3].astype(np.uint16) * 257, []),
        "progressive": (".jpeg", noise[:, :, :3], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        "1x1": (".png", noise[:1, :1, :3], []),
    }[name]
    _, data = cv2.imencode(form, np.ascontiguousarray(image), options)
    return bytes(data)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"", more: bytes = b""
) -> bytes:
    """Return a PNG file with any header and any compressed data, however they disagree."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


@cache
def _zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 9)


def _jpeg_of_size(width: int, height: int) -> bytes:
    """A real JPEG whose frame header states another size."""
    data = bytearray(picture("jpeg", 1))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _cut(encoding: str) -> Callable[[Random], Case]:
    def make(random: Random) -> Case:
        data = picture(encoding, random.randrange(16))
        return data[: random.randrange(1, len(data))], encoding, 64, 48

    return make


def _corrupt(encoding: str) -> Callable[[Random], Case]:
    def make(random: Random) -> Case:
        data = bytearray(picture(encoding, random.randrange(16)))
        for _ in range(random.randint(1, 20)):
            data[random.randrange(12, len(data))] = random.randrange(256)
        return bytes(data), encoding, 64, 48

    return make


def _stated(data: Callable[[], bytes], encoding: str, width: int, height: int) -> Callable[[Random], Case]:
    return lambda _: (data(), encoding, width, height)


KINDS: dict[str, Callable[[Random], Case]] = {
    **{f"{one.upper()} cut short": _cut(one) for one in ("jpeg", "png", "webp")},
    **{f"{one.upper()} corrupted": _corrupt(one) for one in ("jpeg", "png", "webp")},
    "zero bytes of length": _stated(lambda: b"", "png", 8, 8),
    "zeros": _stated(lambda: bytes(5000), "jpeg", 64, 48),
    "random bytes": lambda random: (random.randbytes(3000), "jpeg", 64, 48),
    "magic bytes alone": _stated(lambda: b"\xff\xd8\xff", "jpeg", 64, 48),
    "JPEG start and end alone": _stated(lambda: b"\xff\xd8\xff\xd9", "jpeg", 64, 48),
    "PNG stated as JPEG": _stated(lambda: picture("png", 1), "jpeg", 64, 48),
    "JPEG stated as WebP": _stated(lambda: picture("jpeg", 1), "webp", 64, 48),
    "another size stated": _stated(lambda: picture("png", 1), "png", 640, 480),
    "sides exchanged": _stated(lambda: picture("png", 1), "png", 48, 64),
    "PNG bomb of 65535 x 65535": _stated(
        lambda: png(65535, 65535, data=_zeros(1 << 20)), "png", 65535, 65535
    ),
    "PNG bomb that states less": _stated(lambda: png(65535, 65535, data=_zeros(1 << 20)), "png", 64, 48),
    "PNG bomb of 2**31 x 1": _stated(lambda: png(2**31 - 1, 1, data=_zeros(1 << 16)), "png", 65535, 1),
    "PNG of 0 x 0": _stated(lambda: png(0, 0, data=_zeros(16)), "png", 1, 1),
    "PNG, too little data": _stated(lambda: png(64, 48, data=_zeros(64)), "png", 64, 48),
    "PNG, 16 MB behind 64 x 48": _stated(lambda: png(64, 48, data=_zeros(1 << 24)), "png", 64, 48),
    "PNG with a bomb in a text chunk": _stated(
        lambda: png(8, 8, data=_zeros(200), more=_chunk(b"zTXt", b"k\0\0" + _zeros(1 << 24))), "png", 8, 8
    ),
    "PNG with a bomb in a colour profile": _stated(
        lambda: png(8, 8, data=_zeros(200), more=_chunk(b"iCCP", b"k\0\0" + _zeros(1 << 24))), "png", 8, 8
    ),
    "PNG of an impossible depth": _stated(lambda: png(8, 8, depth=7, data=_zeros(200)), "png", 8, 8),
    "PNG of an impossible colour type": _stated(lambda: png(8, 8, colour=5, data=_zeros(200)), "png", 8, 8),
    "PNG with a palette index of no palette": _stated(
        lambda: png(8, 8, colour=3, data=_zeros(72)), "png", 8, 8
    ),
    "PNG of a wrong checksum": _stated(lambda: picture("png", 2)[:-6] + b"\0\0\0\0\0\0", "png", 64, 48),
    "PNG with a chunk of 2 GB": _stated(
        lambda: picture("png", 1)[:33] + b"\x7f\xff\xff\xffIDAT", "png", 64, 48
    ),
    "JPEG bomb of 65500 x 65500": _stated(lambda: _jpeg_of_size(65500, 65500), "jpeg", 65500, 65500),
    "JPEG that states more than it has": _stated(lambda: _jpeg_of_size(640, 480), "jpeg", 640, 480),
    "JPEG of 0 x 0": _stated(lambda: _jpeg_of_size(0, 0), "jpeg", 1, 1),
    "JPEG with a segment of length 0": _stated(
        lambda: b"\xff\xd8\xff\xe0\0\0" + picture("jpeg", 1)[2:], "jpeg", 64, 48
    ),
    "JPEG of 60,000 restart markers": _stated(
        lambda: picture("jpeg", 1)[:-2] + b"\xff\xd0" * 60_000 + b"\xff\xd9", "jpeg", 64, 48
    ),
    "WebP of a lying size": _stated(
        lambda: b"RIFF\xff\xff\xff\x7fWEBPVP8 \xff\xff\xff\x7f" + bytes(64), "webp", 64, 48
    ),
    "WebP of 16383 x 16383": _stated(
        lambda: b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\xfe\x3f\0\xfe\x3f\0" + bytes(16),
        "webp",
        16383,
        16383,
    ),
    "grey JPEG": _stated(lambda: special("grey"), "jpeg", 64, 48),
    "progressive JPEG": _stated(lambda: special("progressive"), "jpeg", 64, 48),
    "PNG with transparency": _stated(lambda: special("alpha"), "png", 64, 48),
    "PNG of 16 bits": _stated(lambda: special("16-bit"), "png", 64, 48),
    "one pixel": _stated(lambda: special("1x1"), "png", 1, 1),
    "a GIF": _stated(lambda: b"GIF89a\x40\0\x30\0\xf7\0\0" + bytes(800), "png", 64, 48),
    "a BMP": _stated(
        lambda: b"BM" + struct.pack("<IIIIiiHH", 2000, 0, 54, 40, 8, 8, 1, 24) + bytes(228), "png", 8, 8
    ),
    "a TIFF": _stated(lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(400), "png", 64, 48),
    "an SVG": _stated(f"<svg onload='{PAYLOAD_MARK}'/>".encode, "png", 64, 48),
    "HTML": _stated(f"<html><script>{PAYLOAD_MARK}</script>".encode, "jpeg", 64, 48),
    "a polyglot: JPEG and script": _stated(
        lambda: picture("jpeg", 1) + f"<script>{PAYLOAD_MARK}</script>".encode(), "jpeg", 64, 48
    ),
    "a polyglot: PNG and ZIP": _stated(lambda: picture("png", 1) + b"PK\x05\x06" + bytes(18), "png", 64, 48),
    "an ELF program": _stated(lambda: b"\x7fELF\x02\x01\x01" + bytes(500), "jpeg", 64, 48),
}


def frame(random: Random, what: Case, /, **changes: Any) -> dict[str, Any]:
    """Return the fields of a frame that carries an image and states its true hash."""
    image, encoding, width, height = what
    return honest.fields("frame", random) | {
        "image": image,
        "encoding": encoding,
        "width": width,
        "height": height,
        "image_sha256": hashlib.sha256(image).hexdigest(),
        **changes,
    }


def shoot(random: Random) -> Shot:
    """Return a frame with such an image, or one whose stated hash is another's."""
    name = random.choice([*KINDS, "hash of another image", "hash of nothing"])
    if name == "hash of another image":
        content = frame(random, (picture("png", 1), "png", 64, 48), image_sha256="0" * 64)
    elif name == "hash of nothing":
        content = frame(
            random, (picture("png", 1), "png", 64, 48), image_sha256=hashlib.sha256(b"").hexdigest()
        )
    else:
        content = frame(random, KINDS[name](random))
    return Shot(FAMILY, name, honest.topic("frame"), honest.encode("frame", content))
