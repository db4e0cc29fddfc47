"""The optics and the camera: illumination, dust, bubbles, focus, exposure, noise."""
# ruff: noqa: PLR2004 (a picture is made of numbers; each stands where it is drawn)

from dataclasses import dataclass

import cv2
import numpy as np

from smear_simulator.errors import SettingError
from smear_simulator.noise import FloatImage, crop, sensor_noise


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong; each is a probability per frame, except drift and defocus.

    Attributes:
        blank: The field holds no cells.
        out_of_focus: Focus is lost by 6 to 15 micrometres.
        dust: Specks on the sensor's cover glass.
        bubble: An air bubble in the immersion oil.
        defocus_um: Standard deviation of the ordinary focus error.
        drift_um: Standard deviation of the stage's position error.
        exposure: Standard deviation of the exposure's logarithm.

    Raises:
        SettingError: If a probability is outside 0 to 1 or a deviation is negative.
    """

    blank: float = 0.0
    out_of_focus: float = 0.0
    dust: float = 0.15
    bubble: float = 0.0
    defocus_um: float = 0.35
    drift_um: float = 0.4
    exposure: float = 0.03

    def __post_init__(self) -> None:
        """Refuse numbers outside their range."""
        for name in ("blank", "out_of_focus", "dust", "bubble"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                message = f"faults.{name} is {value}; a probability lies between 0 and 1"
                raise SettingError(message)
        for name in ("defocus_um", "drift_um", "exposure"):
            value = getattr(self, name)
            if value < 0:
                message = f"faults.{name} is {value}; a standard deviation is zero or more"
                raise SettingError(message)

    @classmethod
    def demanding(cls) -> "Faults":
        """Return the faults of a bad day, for exercising a quality gate."""
        return cls(
            blank=0.06, out_of_focus=0.08, dust=0.4, bubble=0.06, defocus_um=0.6, drift_um=1.0, exposure=0.08
        )


def blur_sigma_px(defocus_um: float, base_um: float, pixel_um: float) -> float:
    """Return the point spread's standard deviation in pixels at a focus error."""
    return float(np.hypot(base_um, 0.17 * abs(defocus_um)) / pixel_um)


def illumination(shape: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Return the lamp's unevenness (H, W, 3), about 1: tilt, an off-centre hot spot, vignetting."""
    rows, columns = 24, 32
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    tilt = rng.normal(0, 0.025, 2)
    centre = rng.normal(0, 0.25, 2)
    vignette = rng.uniform(0.0, 0.13)
    away = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    light = 1 + tilt[0] * x + tilt[1] * y - vignette * away * 0.6
    coloured = np.stack([light + rng.normal(0, 0.008) * away for _ in range(3)], axis=2)
    small = (coloured / np.percentile(coloured, 90)).astype(np.float32)
    return np.asarray(
        cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32
    )


def add_dust(image: FloatImage, rng: np.random.Generator) -> None:
    """Darken a few soft specks and hairs, in place."""
    height, width = image.shape[:2]
    field = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        axes = (int(rng.integers(2, 6)), int(rng.integers(2, 9)))
        cv2.ellipse(
            field, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0.15, 0.45)), -1
        )
    image *= 1 - cv2.GaussianBlur(field, (0, 0), 2.2)[..., None]


def add_bubble(image: FloatImage, rng: np.random.Generator) -> None:
    """Draw an air bubble: a bright ring with a dark border, paler inside, in place."""
    height, width = image.shape[:2]
    radius = float(rng.uniform(0.12, 0.3)) * width
    centre = (rng.uniform(0, width), rng.uniform(0, height))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    gap = np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1])) - np.float32(radius)
    dark = np.exp(-((gap / np.float32(5)) ** 2)) * np.float32(0.55)
    bright = np.exp(-(((gap + 11) / np.float32(6)) ** 2)) * np.float32(0.25)
    image *= (1 - dark + bright + np.float32(0.06) * (gap < -11))[..., None]


def expose(image: FloatImage, gain: float, noise: float, rng: np.random.Generator) -> FloatImage:
    """Return the sensor's picture: gain, shot-like noise, clipping; values 0 to 255."""
    field = crop(sensor_noise(), (image.shape[0], image.shape[1]), rng)
    return np.asarray(image * np.float32(gain) + field * np.float32(noise), dtype=np.float32)
