"""Hand-made features of a smear image, in blocks: colour, texture, and the shape of nuclei."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops
from skimage.filters import threshold_multiotsu
from skimage.measure import label, regionprops

from model_zoo.baseline import binary_patterns

Image = NDArray[np.uint8]

_BINS = 16
_LEVELS = 16
_DISTANCES = (1, 3)
_ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
_PROPERTIES = ("contrast", "homogeneity", "energy", "correlation", "dissimilarity")
_STOCKWELL = 64
_SMALLEST = 0.002
"""Share of the image below which a dark spot is a platelet or dirt, and no nucleus."""


def colour_features(image: Image) -> NDArray[np.float32]:
    """Histograms of HSV and Lab in 16 bins, means and deviations, of a BGR image (H, W, 3): (108,)."""
    parts = []
    for code in (cv2.COLOR_BGR2HSV, cv2.COLOR_BGR2LAB):
        space = cv2.cvtColor(image, code)
        mean, deviation = cv2.meanStdDev(space)
        parts += [np.bincount(space[:, :, axis].ravel() >> 4, minlength=_BINS) for axis in range(3)]
        parts[-3:] = [part / space[:, :, 0].size for part in parts[-3:]]
        parts += [mean.ravel() / 255, deviation.ravel() / 255]
    return np.concatenate(parts).astype(np.float32)


def texture_features(grey: Image) -> NDArray[np.float32]:
    """Co-occurrence (Haralick 1973) and uniform local binary patterns (Ojala et al. 2002) of a grey image: (30,).

    Co-occurrence properties are averaged over four directions, with their range, at distances of 1 and 3 pixels.
    """
    matrix = graycomatrix(
        grey // (256 // _LEVELS), _DISTANCES, _ANGLES, levels=_LEVELS, symmetric=True, normed=True
    )
    parts = []
    for name in _PROPERTIES:
        values = graycoprops(matrix, name)
        parts += [values.mean(axis=1), np.ptp(values, axis=1)]
    parts.append(binary_patterns(grey, 1))
    return np.concatenate(parts).astype(np.float32)


def shape_features(image: Image) -> NDArray[np.float32]:
    """Shape of the nuclei of a BGR image, and the share of nucleus in cell: (12,); zeros where no nucleus is seen.

    Count of nuclei; of the largest nucleus area, eccentricity, solidity, extent, roundness and lobes; means over all
    nuclei of area, eccentricity and solidity; nucleus-to-cytoplasm ratio; share of stained area.
    """
    nuclei, stained = stained_areas(image)
    regions = [region for region in regionprops(label(nuclei)) if region.area >= _SMALLEST * nuclei.size]
    if not regions:
        return np.zeros(12, np.float32)
    largest = max(regions, key=lambda region: region.area)
    area = float(nuclei.sum())
    near = cv2.dilate(nuclei.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    cytoplasm = float((stained & near & ~nuclei).sum())
    core = cv2.erode(largest.image.astype(np.uint8), np.ones((5, 5), np.uint8))
    values = [
        len(regions),
        largest.area / nuclei.size,
        largest.eccentricity,
        largest.solidity,
        largest.extent,
        4 * np.pi * largest.area / max(1.0, largest.perimeter) ** 2,
        cv2.connectedComponents(core)[0] - 1,
        np.mean([region.area for region in regions]) / nuclei.size,
        np.mean([region.eccentricity for region in regions]),
        np.mean([region.solidity for region in regions]),
        area / max(1.0, area + cytoplasm),
        stained.mean(),
    ]
    return np.asarray(values, np.float32)


def stockwell_features(grey: Image) -> NDArray[np.float32]:
    """Energy of each band of the discrete orthonormal Stockwell transform of a grey image, as logarithm: (144,).

    The transform (Stockwell 2007) parts each frequency axis into octaves, of either sign, and is orthonormal within a band,
    so that a band's energy is that of its Fourier coefficients (Parseval). The image is shrunk to 64 x 64.
    """
    small = cv2.resize(grey, (_STOCKWELL, _STOCKWELL), interpolation=cv2.INTER_AREA).astype(np.float32)
    energy = np.abs(np.fft.fft2(small - small.mean())) ** 2
    frequency = np.round(np.fft.fftfreq(_STOCKWELL) * _STOCKWELL).astype(np.int64)
    octave = np.where(
        frequency == 0, 0, np.floor(np.log2(np.maximum(np.abs(frequency), 1))).astype(np.int64) + 1
    )
    octave = np.minimum(octave, 6)
    band = np.where(frequency < 0, octave + 5, octave)  # 0 to 6 upward, 6 to 11 downward
    bands = np.zeros((12, 12))
    np.add.at(bands, (band[:, None], band[None, :]), energy)
    return np.log10(bands.ravel() + 1).astype(np.float32)


def small_picture(image: Image) -> NDArray[np.float32]:
    """The BGR image at 32 x 32, flattened, 0..1: (3072,)."""
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    return np.asarray(small.ravel() / 255, np.float32)


BLOCKS: Final[dict[str, slice]] = {
    "colour": slice(0, 108),
    "texture": slice(108, 138),
    "shape": slice(138, 150),
    "stockwell": slice(150, 294),
    "picture": slice(294, 294 + 3072),
}
"""Columns of `all_features`, by block."""


def all_features(image: Image) -> NDArray[np.float32]:
    """Every block of a BGR image (H, W, 3), one after the other: (3366,)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.concatenate(
        [
            colour_features(image),
            texture_features(grey),
            shape_features(image),
            stockwell_features(grey),
            small_picture(image),
        ]
    )


def stained_areas(image: Image) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Nuclei and all that is stained, of a BGR image (H, W, 3), by Otsu's thresholds (1979) for three classes of green.

    Green is what haematoxylin and azure absorb most: nuclei are darkest, plasma is brightest, the rest between.

    Returns:
        Two (H, W) masks: nuclei, and cells with their nuclei; both empty where there are no three shades.
    """
    green = cv2.GaussianBlur(image[:, :, 1], (5, 5), 0)
    try:
        low, high = threshold_multiotsu(green, classes=3)
    except ValueError:
        nothing = np.zeros(green.shape, bool)
        return nothing, nothing
    opened = cv2.morphologyEx((green <= low).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(opened > 0), np.asarray(green <= high)
