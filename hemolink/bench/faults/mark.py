"""A number drawn into a picture's pixels, so that a frame is known again whatever became of its bytes.

The hash of its file names a picture as long as nobody encodes it anew; an edge does when the broker takes nothing so
large. The mark survives that: a row of grey blocks along the lower edge, each 8 x 16 pixels (a JPEG's own block or two),
holding a start pattern, the number, a temper and a checksum.
"""

import zlib
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Temper = Literal["plain", "raise", "hang", "abort", "undecodable", "abort-decoding"]
"""What a picture makes of a stand-in classifier that looks at it."""

TEMPERS: tuple[Temper, ...] = get_args(Temper)
LARGEST = 2**24 - 1

_BLOCK_WIDTH, _BLOCK_HEIGHT = 8, 16
_START = (1, 0)
_NUMBER_BITS, _TEMPER_BITS, _CHECK_BITS = 24, 4, 8
_BLOCKS = len(_START) + _NUMBER_BITS + _TEMPER_BITS + _CHECK_BITS
_BRIGHT, _DARK, _BETWEEN = 215, 70, 142
_RIM = 2

MIN_WIDTH = _BLOCKS * _BLOCK_WIDTH


def draw(image: NDArray[np.uint8], number: int, *, temper: Temper = "plain") -> None:
    """Draw a number into an image, in place.

    Args:
        image: Height x width x 3, uint8; at least `MIN_WIDTH` pixels wide.
        number: 0 to `LARGEST`.
        temper: What the picture is to do to a classifier.
    """
    if image.shape[1] < MIN_WIDTH or not 0 <= number <= LARGEST:
        raise ValueError(f"a mark needs {MIN_WIDTH} pixels and a number up to {LARGEST}")
    word = (number << _TEMPER_BITS) | TEMPERS.index(temper)
    bits = [*_START, *_bits(word, _NUMBER_BITS + _TEMPER_BITS), *_bits(_check(word), _CHECK_BITS)]
    row = np.repeat(np.where(np.array(bits) == 1, _BRIGHT, _DARK).astype(np.uint8), _BLOCK_WIDTH)
    image[-_BLOCK_HEIGHT:, : row.size] = row[None, :, None]


def read(image: NDArray[np.uint8]) -> tuple[int, Temper] | None:
    """Return the number and the temper drawn into an image, or None if it bears no mark that can be read.

    Args:
        image: Height x width x 3, uint8.
    """
    if image.shape[0] < _BLOCK_HEIGHT or image.shape[1] < MIN_WIDTH:
        return None
    strip = image[-_BLOCK_HEIGHT + _RIM : -_RIM, :MIN_WIDTH].mean(axis=(0, 2))
    levels = strip.reshape(_BLOCKS, _BLOCK_WIDTH)[:, _RIM:-_RIM].mean(axis=1)
    bits = [int(level > _BETWEEN) for level in levels]
    start, word, check = (
        bits[: len(_START)],
        _number(bits[len(_START) : -_CHECK_BITS]),
        _number(bits[-_CHECK_BITS:]),
    )
    temper = word & (2**_TEMPER_BITS - 1)
    if tuple(start) != _START or check != _check(word) or temper >= len(TEMPERS):
        return None
    return word >> _TEMPER_BITS, TEMPERS[temper]


def _bits(value: int, count: int) -> list[int]:
    return [value >> shift & 1 for shift in reversed(range(count))]


def _number(bits: list[int]) -> int:
    return int("".join(map(str, bits)), 2)


def _check(word: int) -> int:
    return zlib.crc32(word.to_bytes(4, "big")) & 0xFF
