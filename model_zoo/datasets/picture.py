"""Reading a data set's image files: the formats that public sets come in, and no silent change of mode.

What a microscope sends is decoded by `model_zoo.image`. Here TIFF and BMP are read too (ALL-IDB2 and C-NMC), and a file
that is not 8-bit colour is refused with its mode, since a converted image among unconverted ones gives its source away.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import ImageError
from model_zoo.image import MAX_PIXELS, decode_image

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
MAX_BYTES: Final = 512_000_000

_TIFF: Final = {b"II*\0": "<", b"MM\0*": ">"}
_WIDTH_TAG: Final = 256
_HEIGHT_TAG: Final = 257
_OPAQUE: Final = 255
_REMEDY: Final = "fetch the file again, or export it as PNG"


class ModeError(ImageError):
    """Raised when an image can be read but is not 8-bit colour.

    Attributes:
        mode: What it is: `grey`, `alpha`, `16-bit` or `float`.
    """

    def __init__(self, message: str, *, mode: str) -> None:
        super().__init__(message)
        self.mode = mode


@dataclass(frozen=True)
class Picture:
    """A decoded file.

    Attributes:
        data: The file's bytes.
        image: (H, W, 3) uint8 BGR.
    """

    data: bytes
    image: NDArray[np.uint8]


def read_picture(path: Path) -> Picture:
    """Read and decode an image file.

    Raises:
        ModeError: If it is grey, has a transparent part, or more than 8 bits a channel.
        ImageError: If it cannot be read, is damaged, of another format, or too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(
                f"the file is larger than {MAX_BYTES:,} bytes: cut fields from whole slides first"
            )
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("there is no such file: was it moved?") from error
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror}): check the file and its permissions") from error
    return Picture(data, decode_picture(data))


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """Decode an image of any format that data sets come in: (H, W, 3) uint8 BGR.

    Raises:
        ModeError: If it is not 8-bit colour.
        ImageError: If it is damaged, of another format, or too large.
    """
    endian = _TIFF.get(data[:4])
    if endian or data[:2] == b"BM":
        width, height = _tiff_size(data, endian) if endian else _bmp_size(data)
        if not 0 < width * height <= MAX_PIXELS:
            raise ImageError(
                f"the header states {width} x {height} pixels; from 1 to {MAX_PIXELS:,} can be read: {_REMEDY}"
            )
    else:
        strict = decode_image(data)  # refuses what is cut short or damaged
        if data[:3] == b"\xff\xd8\xff":
            return _require_colour(strict)
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(f"the image data are damaged or of an unknown kind: {_REMEDY}")
    return _require_colour(np.asarray(image))


def _require_colour(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    channels = 1 if image.ndim == 2 else image.shape[2]  # noqa: PLR2004
    if image.dtype != np.uint8:
        mode = "16-bit" if image.dtype == np.uint16 else "float"
        raise ModeError(f"it is a {mode} image: convert the whole set to 8-bit colour", mode=mode)
    pixels = np.asarray(image, np.uint8)
    if channels == 4:  # noqa: PLR2004
        if pixels[:, :, 3].min() < _OPAQUE:
            raise ModeError(
                "it has transparent parts: flatten it onto the colour of the slide's background", mode="alpha"
            )
        pixels = np.ascontiguousarray(pixels[:, :, :3])
    if channels == 1 or (
        np.array_equal(pixels[:, :, 0], pixels[:, :, 1]) and np.array_equal(pixels[:, :, 0], pixels[:, :, 2])
    ):
        raise ModeError("it is a grey image: stained smears need colour", mode="grey")
    return pixels


def _bmp_size(data: bytes) -> tuple[int, int]:
    try:
        width, height = struct.unpack_from("<ii", data, 18)
    except struct.error as error:
        raise ImageError(f"the BMP header is cut short ({len(data)} bytes): {_REMEDY}") from error
    (size,) = struct.unpack_from("<I", data, 2)
    if size > len(data):
        raise ImageError(f"the BMP data end early ({len(data)} of {size} bytes): {_REMEDY}")
    return int(width), abs(int(height))


def _tiff_size(data: bytes, endian: str) -> tuple[int, int]:
    """Width and height of the first directory (TIFF 6.0, section 2)."""
    found: dict[int, int] = {}
    try:
        (start,) = struct.unpack_from(f"{endian}I", data, 4)
        (count,) = struct.unpack_from(f"{endian}H", data, start)
        for number in range(count):
            tag, kind = struct.unpack_from(f"{endian}HH", data, start + 2 + 12 * number)
            if tag in (_WIDTH_TAG, _HEIGHT_TAG):
                form = "H" if kind == 3 else "I"  # noqa: PLR2004
                (found[tag],) = struct.unpack_from(f"{endian}{form}", data, start + 10 + 12 * number)
        return found[_WIDTH_TAG], found[_HEIGHT_TAG]
    except (struct.error, KeyError) as error:
        raise ImageError(
            f"the TIFF header is cut short or malformed ({len(data)} bytes): {_REMEDY}"
        ) from error
