"""Procedural noise: textures made once, cropped for every cell and frame."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]

_SIDE = 640
_SCALES_UM = {
    "grain": 0.10,
    "fine": 0.19,
    "medium": 0.34,
    "coarse": 0.50,
    "clumped": 0.62,
    "shade": 1.6,
    "warp": 1.3,
}


@lru_cache(maxsize=32)
def texture(name: str, pixel_um: float) -> FloatImage:
    """Return a periodic square texture of zero mean and unit variance at a given pixel size."""
    rng = np.random.default_rng([9071, sorted(_SCALES_UM).index(name)])
    white = rng.standard_normal((_SIDE, _SIDE)).astype(np.float32)
    frequency = np.fft.rfft2(white)
    fy = np.fft.fftfreq(_SIDE)[:, None]
    fx = np.fft.rfftfreq(_SIDE)[None, :]
    radius2 = (fx**2 + fy**2) * (2 * np.pi) ** 2
    sigma = _SCALES_UM[name] / pixel_um
    # A difference of Gaussians: blobs of one size, without the slow drift that would shade a whole cell.
    band = np.exp(-0.5 * radius2 * sigma**2) - np.exp(-0.5 * radius2 * (2.2 * sigma) ** 2)
    field = np.fft.irfft2(frequency * band, s=(_SIDE, _SIDE)).astype(np.float32)
    field -= field.mean()
    field /= field.std()
    field.setflags(write=False)
    return field


@lru_cache(maxsize=2)
def sensor_noise() -> FloatImage:
    """Return the camera's noise, unit variance, to be cropped: grey and coloured parts, slightly smooth."""
    rng = np.random.default_rng(4177)
    field = rng.standard_normal((1024, 1280, 3)).astype(np.float32)
    field += (
        0.6
        * cv2.GaussianBlur(rng.standard_normal((1024, 1280, 1)).astype(np.float32), (0, 0), 0.8)[..., None]
        * 2
    )
    field /= field.std()
    field.setflags(write=False)
    return field


def crop(field: FloatImage, shape: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Return a random window of ``shape`` (height, width), tiled if the field is smaller."""
    height, width = shape
    if height > field.shape[0] or width > field.shape[1]:
        rows = -(-height // field.shape[0])
        columns = -(-width // field.shape[1])
        field = np.tile(field, (rows, columns) + (1,) * (field.ndim - 2))
    top = int(rng.integers(field.shape[0] - height + 1))
    left = int(rng.integers(field.shape[1] - width + 1))
    return field[top : top + height, left : left + width]
