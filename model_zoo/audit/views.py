"""Three views of an image: in full, its background alone, and without colour; each as features and as a picture."""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from model_zoo.compared.features import colour_features, texture_features

Image = NDArray[np.uint8]
View = Callable[[Image], NDArray[np.float32]]

_EDGE: Final = 7
_OPENING: Final = 5
_PATCH: Final = 0.015
_PEAK: Final = 0.2
_FEWEST: Final = 64


def full(image: Image) -> NDArray[np.float32]:
    """Colour and texture of the whole BGR image (H, W, 3): (138,)."""
    return np.concatenate([colour_features(image), texture_features(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))])


def background(image: Image) -> NDArray[np.float32]:
    """Colour and noise of the empty plasma of a BGR image (H, W, 3), no cell in it: (23,).

    Means, deviations and quantiles of Lab and the mean of HSV over the mask, how each channel changes from pixel to
    pixel, and how noise in one channel goes with that in another. Zeros where no plasma is seen.
    """
    mask = plasma(image)
    if mask.sum() < _FEWEST:
        return np.zeros(23, np.float32)
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)[mask].astype(np.float32)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[mask].astype(np.float32)
    fine = image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)
    noise = fine[mask]
    with np.errstate(invalid="ignore", divide="ignore"):  # a flat background has no noise to correlate
        correlation = np.corrcoef(noise.T)
    parts = [
        lab.mean(axis=0),
        lab.std(axis=0),
        *np.percentile(lab, [10, 90], axis=0),
        hsv.mean(axis=0),
        noise.std(axis=0),
        np.percentile(np.abs(noise), 99, axis=0),
        np.nan_to_num(correlation[[0, 0], [1, 2]]),
    ]
    return np.concatenate(parts).astype(np.float32)


def colourless(image: Image) -> NDArray[np.float32]:
    """Texture of the grey image, its brightness and contrast made equal: (46,)."""
    grey = equalised(image)
    spectrum = np.abs(np.fft.rfft2(grey.astype(np.float32) - 128)) ** 2
    rows, columns = np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])[None, :]
    ring = np.minimum((np.hypot(rows, columns) * 32).astype(np.int64), 15)
    power = np.bincount(ring.ravel(), spectrum.ravel(), minlength=16) / np.bincount(
        ring.ravel(), minlength=16
    )
    return np.concatenate([texture_features(grey), np.log10(power + 1)]).astype(np.float32)


VIEWS: Final[dict[str, View]] = {"full": full, "background": background, "colour-free": colourless}


def all_views(
    pixels: NDArray[np.uint8], *, jobs: int = 1, progress: Callable[[], None] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Features of images (N, H, W, 3) by view, each (N, D).

    Args:
        pixels: BGR.
        jobs: Processes.
        progress: Called after each image.
    """
    found = []
    for views in Parallel(n_jobs=jobs, return_as="generator")(delayed(_views)(image) for image in pixels):
        found.append(views)
        if progress is not None:
            progress()
    return {name: np.stack([views[name] for views in found]) for name in VIEWS}


def _views(image: Image) -> dict[str, NDArray[np.float32]]:
    cv2.setNumThreads(1)
    return {name: view(image) for name, view in VIEWS.items()}


def plasma(image: Image) -> NDArray[np.bool_]:
    """Where a BGR image shows no cell: what is as bright as the brightest common green, in large patches, away from edges.

    Small bright patches are the pale centres of red cells, which tell of anaemia and not of the slide.

    Returns:
        (H, W) mask.
    """
    green = cv2.GaussianBlur(image[:, :, 1], (5, 5), 0)
    bright = (green >= _plasma_threshold(green)).astype(np.uint8)
    bright = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((_OPENING, _OPENING), np.uint8))
    count, marks, sizes, _ = cv2.connectedComponentsWithStats(bright, connectivity=4)
    areas = sizes[1:count, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(areas >= _PATCH * green.size)
    inside = np.isin(marks, large).astype(np.uint8)
    return np.asarray(cv2.erode(inside, np.ones((_EDGE, _EDGE), np.uint8)), np.bool_)


def _plasma_threshold(green: Image) -> int:
    """The lower end of the brightest peak of the histogram that is at least a fifth as high as the highest."""
    counts = np.bincount(green.ravel(), minlength=256).astype(np.float32)
    smooth = cv2.GaussianBlur(counts[None, :], (0, 0), 2.5)[0]
    padded = np.concatenate([[0.0], smooth, [0.0]])
    peaks = np.flatnonzero((smooth >= padded[:-2]) & (smooth > padded[2:]) & (smooth >= _PEAK * smooth.max()))
    top = int(peaks[-1])
    above = green[green >= top].astype(np.float32)
    spread = float(np.sqrt(np.mean((above - top) ** 2)))  # the upper half is plasma alone
    return max(0, round(top - 2 * max(2.0, spread)))


def equalised(image: Image) -> Image:
    """The grey picture of a BGR image, with a mean of 128 and a deviation of 40."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    scaled = (grey - grey.mean()) / max(1.0, float(grey.std())) * 40 + 128
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def seen(image: Image, view: str) -> Image:
    """What a view is made from, as a BGR picture: the whole, the plasma on grey, or the grey picture."""
    if view == "background":
        return np.where(plasma(image)[:, :, None], image, np.uint8(90))
    if view == "colour-free":
        return np.asarray(cv2.cvtColor(equalised(image), cv2.COLOR_GRAY2BGR), np.uint8)
    return image
