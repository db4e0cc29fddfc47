"""Pairs of pictures that show the same thing: near-duplicates, and mirrored or turned copies.

Two pictures are alike if their hashes differ in at most `SAME` bits, or in at most `NEAR` bits and their thumbnails
correlate at `CORRELATION` or more at the best shift of up to an eighth of the side. Measured on 2,274 real smear images
(2.58 million pairs, every one compared): re-encoding at JPEG quality 30, half size, blur, noise, tint and gamma change at
most 9 bits, clipped brightness 49, a crop by 2 % on every side 53; the nearest pair of pictures of different cells differs in 71 bits.
Unrelated pairs correlate at no more than 0.85, shifted photographs of one field at 0.92 to 0.99. Six pairs are found
there; each was looked at, and each shows one field twice.

Small sets are compared pair by pair. Large ones go through bands: of sixteen bands of sixteen bits, a pair that differs
in at most 47 bits agrees in some band up to two bits (pigeonhole), so looking up each band with up to two bits changed
finds every such pair; most with 48 to 63 bits are found for the same reason, and about half of those beyond. Measured:
50,028 images in 40 s on one core and 0.4 GB, with 300 of 300 planted pairs of 1 to 63 bits found.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.fingerprint import BLOCK, ORIENTATIONS, SIDE, Fingerprint, oriented

SAME: Final = 63
NEAR: Final = 88
CORRELATION: Final = 0.9
COPY: Final = 31
"""Bits by which a mirrored or turned copy may differ from its original."""

PAIRWISE: Final = 4096
_BANDS: Final = 16
_BUCKETS: Final = 1 << 16
_CHUNK: Final = 1 << 21
_MARGIN: Final = SIDE // 8
_ORDER: Final = np.random.default_rng(0).permutation(BLOCK * BLOCK)

Words = NDArray[np.uint64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Likeness:
    """Two pictures that show the same.

    Attributes:
        first: Index of the earlier picture.
        second: Index of the later one.
        bits: Bits of the hash that differ.
        correlation: Of the thumbnails at the best shift.
        orientation: 0 if both stand the same way; otherwise the second is a mirrored or turned copy.
    """

    first: int
    second: int
    bits: int
    correlation: float
    orientation: int = 0


def alike(
    prints: list[Fingerprint],
    *,
    pairwise: int = PAIRWISE,
    progress: Callable[[float], None] | None = None,
) -> list[Likeness]:
    """Find every pair of pictures that show the same.

    Pictures of equal hash are compared with the first of them only, so that a thousand copies give a thousand pairs.

    Args:
        prints: Fingerprints of N pictures.
        pairwise: Up to this many different hashes every pair is compared; more go through bands.
        progress: Called with the share that is done, 0 to 1.
    """
    if not prints:
        return []
    bits = np.stack([one.bits for one in prints])
    words, first, inverse = np.unique(_spread(bits), axis=0, return_index=True, return_inverse=True)
    found = [
        Likeness(int(first[own]), index, 0, 1.0)
        for index, own in enumerate(inverse.ravel().tolist())
        if first[own] != index
    ]
    search = _pairwise if len(words) <= pairwise else _banded
    for orientation in range(ORIENTATIONS):
        limit = COPY if orientation else NEAR
        turned = _spread(oriented(bits[first], orientation))
        seen: set[tuple[int, int]] = set()
        for left, right, distance in search(words, turned, limit):
            for a, b, differ in zip(
                first[left].tolist(), first[right].tolist(), distance.tolist(), strict=True
            ):
                pair = (min(a, b), max(a, b))
                if a == b or pair in seen:
                    continue
                seen.add(pair)
                match = _judged(prints, *pair, differ, orientation)
                if match is not None:
                    found.append(match)
        if progress is not None:
            progress((orientation + 1) / ORIENTATIONS)
    return _upright_first(found)


def best_correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Correlation of two thumbnails at the best shift of up to an eighth of the side, the worse way round: -1..1."""
    inner = slice(_MARGIN, SIDE - _MARGIN)
    ways = (
        cv2.matchTemplate(whole, part[inner, inner], cv2.TM_CCOEFF_NORMED).max()
        for whole, part in ((first, second), (second, first))
    )
    return float(min(ways))


def _judged(
    prints: list[Fingerprint], first: int, second: int, differ: int, orientation: int
) -> Likeness | None:
    if orientation:
        return Likeness(first, second, differ, 1.0, orientation)
    correlation = best_correlation(prints[first].thumbnail, prints[second].thumbnail)
    if differ <= SAME or correlation >= CORRELATION:
        return Likeness(first, second, differ, round(correlation, 3))
    return None


def _upright_first(found: list[Likeness]) -> list[Likeness]:
    """One entry a pair: upright if it is alike upright, and a copy only otherwise."""
    best: dict[tuple[int, int], Likeness] = {}
    for match in sorted(found, key=lambda match: (match.orientation > 0, match.bits)):
        best.setdefault((match.first, match.second), match)
    return sorted(best.values(), key=lambda match: (match.first, match.second))


def _spread(bits: NDArray[np.bool_]) -> Words:
    """Pack hashes in a fixed random order: neighbouring frequencies vary together and would make uneven bands."""
    flat = np.packbits(bits.reshape(len(bits), -1)[:, _ORDER], axis=-1)
    return np.ascontiguousarray(flat).view(np.uint64)


def _distance(words: Words, left: Indices, turned: Words, right: Indices) -> NDArray[np.int64]:
    return np.asarray(np.bitwise_count(words[left] ^ turned[right]).sum(axis=1), np.int64)


def _pairwise(
    words: Words, turned: Words, limit: int
) -> Iterator[tuple[Indices, Indices, NDArray[np.int64]]]:
    """Every pair within the limit, row block by row block."""
    block = max(1, _CHUNK // len(words))
    for start in range(0, len(words), block):
        distance = np.zeros((min(block, len(words) - start), len(words)), np.int64)
        for word in range(words.shape[1]):
            distance += np.bitwise_count(words[start : start + block, word, None] ^ turned[None, :, word])
        rows, columns = np.nonzero(distance <= limit)
        yield rows + start, columns, distance[rows, columns]


def _banded(words: Words, turned: Words, limit: int) -> Iterator[tuple[Indices, Indices, NDArray[np.int64]]]:
    """Pairs within the limit that agree in some band, up to two bits (one, for copies); each pair may come twice."""
    errors = 1 if limit <= COPY else 2
    changes = np.asarray(
        [
            sum(1 << bit for bit in chosen)
            for count in range(errors + 1)
            for chosen in combinations(range(16), count)
        ],
        np.uint16,
    )
    bands = words.view(np.uint16)
    keys = turned.view(np.uint16)
    for band in range(_BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        starts = np.searchsorted(bands[order, band], np.arange(_BUCKETS + 1))
        for change in changes:
            wanted = (keys[:, band] ^ change).astype(np.int64)
            counts = starts[wanted + 1] - starts[wanted]
            for right, left in _expanded(order, starts[wanted], counts):
                distance = _distance(words, left, turned, right)
                near = distance <= limit
                yield left[near], right[near], distance[near]


def _expanded(order: Indices, starts: Indices, counts: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Turn (start, count) of every query into pairs (query, member), in pieces that fit in memory."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        own = counts[first:last]
        queries = np.repeat(np.arange(first, last), own)
        within = np.arange(len(queries)) - np.repeat(np.cumsum(own) - own, own)
        yield queries, order[np.repeat(starts[first:last], own) + within]
        first = last
