"""A picture's fingerprint: hashes of its bytes and of what it shows, and a thumbnail to compare by.

The perceptual hash is the sign of 255 low frequencies (a 16 x 16 block of the cosine transform of the 64 x 64 grey image,
without its mean). Mirroring changes the sign of every other column or row, turning exchanges rows and columns, so that
the hashes of all eight orientations follow from one. Sixty-four bits, as are usual, would not do: cells centred in a
crop look alike at low resolution.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE: Final = 64
BLOCK: Final = 16
ORIENTATIONS: Final = 8
"""Orientation 0 is the picture as it is; bit 0 mirrors across, bit 1 down, bit 2 transposes after that."""


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a picture.

    Attributes:
        sha256: Of the file, in hexadecimal.
        bits: (16, 16) bool, the perceptual hash.
        thumbnail: (64, 64) uint8 grey.
        width: Of the picture in pixels.
        height: Of the picture in pixels.
    """

    sha256: str
    bits: NDArray[np.bool_]
    thumbnail: NDArray[np.uint8]
    width: int
    height: int

    @property
    def phash(self) -> str:
        """The perceptual hash as 64 hexadecimal digits."""
        return np.packbits(self.bits).tobytes().hex()


def fingerprint(image: NDArray[np.uint8], data: bytes) -> Fingerprint:
    """Fingerprint a decoded picture.

    Args:
        image: (H, W, 3) uint8 BGR.
        data: The file's bytes.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    thumbnail = np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    frequencies = cv2.dct(thumbnail.astype(np.float32))[:BLOCK, :BLOCK]
    bits = frequencies > 0
    bits[0, 0] = False
    return Fingerprint(
        hashlib.sha256(data).hexdigest(), np.asarray(bits), thumbnail, image.shape[1], image.shape[0]
    )


def oriented(bits: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    """The hashes (..., 16, 16) that the pictures would have if they were mirrored or turned."""
    odd = np.arange(BLOCK) % 2 == 1
    turned = bits.copy()
    if orientation & 1:
        turned ^= odd[None, :]
    if orientation & 2:
        turned ^= odd[:, None]
    if orientation & 4:
        turned = np.swapaxes(turned, -1, -2)
    turned[..., 0, 0] = False
    return np.ascontiguousarray(turned)
