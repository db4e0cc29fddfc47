"""Augmentation on the fly, in training only: the study's six geometric transforms, and what laboratories vary in.

Geometric (Bibi et al. 2020): rotation, width shift, height shift, horizontal flip, zoom, shear. Photometric: stain by
jitter of Lab and of haematoxylin-eosin-DAB densities (Tellez et al. 2019; the separation of Ruifrok and Johnston 2001),
illumination, blur, JPEG, noise.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

# Optical densities of haematoxylin, eosin and DAB, in RGB (Ruifrok and Johnston 2001).
_HED: Final = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
_HED_INVERSE: Final = np.linalg.inv(_HED).astype(np.float32)
_STAIN_SHARE: Final = 0.7
_LAB_SHARE: Final = 0.7
_DENSITY: Final = (-np.log(np.maximum(np.arange(256), 1) / 255.0)).astype(np.float32)


@dataclass(frozen=True)
class Augmentation:
    """How strongly to vary; every field is a half-range or a probability.

    Attributes:
        rotation: Degrees either way.
        shift: Share of the side, by width and by height.
        zoom: Share either way.
        shear: Degrees either way.
        flip: Probability of a horizontal flip.
        stain: Strength of the Lab and HED jitter; 1 is wide.
        exchange: Probability that an image takes on another training frame's stain: mean and deviation in Lab (Reinhard
            et al. 2001), in part or wholly.
        photometric: Probability of each of illumination, blur, JPEG and noise.
        untouched: Probability that an image is only flipped, and otherwise left as it is.
    """

    rotation: float = 180.0
    shift: float = 0.08
    zoom: float = 0.12
    shear: float = 6.0
    flip: float = 0.5
    stain: float = 0.6
    exchange: float = 0.0
    photometric: float = 0.25
    untouched: float = 0.1

    def matrix(
        self,
        rng: np.random.Generator,
        *,
        source: tuple[float, float],
        size: int,
        extent: tuple[float, float],
        aspect: float,
    ) -> NDArray[np.float64]:
        """Draw an affine map, source pixel to output pixel.

        Args:
            rng: Where chance comes from.
            source: Point (x, y) of the source that goes to the output's centre.
            size: Side of the output in pixels.
            extent: Width and height in source pixels that the output shows before zoom.
            aspect: Width over height of a source pixel in the tissue; rotation and shear act on the tissue, not on the
                squashed picture.

        Returns:
            (2, 3) float64.
        """
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        zoom = 1 + rng.uniform(-self.zoom, self.zoom)
        shear = np.tan(np.deg2rad(rng.uniform(-self.shear, self.shear)))
        mirror = -1.0 if rng.random() < self.flip else 1.0
        move = rng.uniform(-self.shift, self.shift, 2) * extent
        if rng.random() < self.untouched:
            angle, zoom, shear = (0.0 if rng.random() < 0.5 else np.pi), 1.0, 0.0  # noqa: PLR2004
            move = np.round(move)
        to_tissue = np.diag([aspect, 1.0])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = np.diag([mirror, 1.0]) @ turn @ np.array([[1.0, shear], [0.0, 1.0]]) * zoom
        linear = np.linalg.inv(to_tissue) @ linear @ to_tissue
        linear = np.diag([size / extent[0], size / extent[1]]) @ linear
        centre = np.asarray(source) + move - 0.5
        offset = np.array([size / 2 - 0.5, size / 2 - 0.5]) - linear @ centre
        return np.column_stack([linear, offset])

    def recolour(self, image: Image, rng: np.random.Generator, *, donor: Image | None = None) -> Image:
        """Vary stain, illumination, sharpness, compression and noise of a BGR image.

        Args:
            image: (H, W, 3) uint8.
            rng: Where chance comes from.
            donor: Another frame, whose stain the image may take on.
        """
        if rng.random() < self.untouched:
            return image
        if donor is not None and rng.random() < self.exchange:
            image = exchange_stain(image, donor, share=rng.uniform(0.3, 1.0))
        if self.stain > 0 and rng.random() < _STAIN_SHARE:
            jitter = lab_jitter if rng.random() < _LAB_SHARE else hed_jitter
            image = jitter(image, rng, self.stain)
        if rng.random() < self.photometric:
            image = illuminate(image, rng)
        if rng.random() < self.photometric:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.0)), np.uint8)
        if rng.random() < self.photometric:
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 96))])
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        if rng.random() < self.photometric:
            noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(1, 5)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
        return image


NO_AUGMENTATION: Final = Augmentation(
    rotation=0, shift=0, zoom=0, shear=0, flip=0, stain=0, photometric=0, untouched=1
)


def lab_jitter(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Shift and stretch lightness and both colour axes of a BGR image."""
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)
    values = np.arange(256, dtype=np.float32)
    tables = []
    for axis, shift in enumerate((18.0, 8.0, 10.0)):
        pivot = 128.0 if axis else 200.0
        stretch = 1 + rng.uniform(-0.25, 0.25) * strength
        table = (values - pivot) * stretch + pivot + rng.uniform(-shift, shift) * strength
        tables.append(np.clip(table, 0, 255).astype(np.uint8))
    lab = cv2.LUT(lab, np.stack(tables, axis=1)[:, None, :].transpose(1, 0, 2))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2BGR), np.uint8)


def exchange_stain(image: Image, donor: Image, *, share: float) -> Image:
    """Move a BGR image's mean and deviation in Lab towards another's (Reinhard et al. 2001).

    Args:
        image: (H, W, 3) uint8.
        donor: Likewise, of any size.
        share: How far, 0 to 1.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)
    mean, deviation = (part[:, 0] for part in cv2.meanStdDev(lab))
    wanted, spread = (part[:, 0] for part in cv2.meanStdDev(cv2.cvtColor(donor, cv2.COLOR_BGR2LAB)))
    stretch = 1 + share * (np.clip(spread / np.maximum(deviation, 1.0), 0.4, 2.5) - 1)
    centre = mean + share * (wanted - mean)
    tables = (np.arange(256, dtype=np.float32)[:, None] - mean) * stretch + centre
    lab = cv2.LUT(lab, np.clip(np.round(tables), 0, 255).astype(np.uint8)[None])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2BGR), np.uint8)


def hed_jitter(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Scale and shift the densities of the stains of a BGR image."""
    scale = 1 + rng.uniform(-0.25, 0.25, 3) * strength
    shift = rng.uniform(-0.03, 0.03, 3) * strength
    mixing = (_HED_INVERSE * scale) @ _HED  # densities in RGB, through the stains and back
    density = _DENSITY[image[:, :, ::-1]]
    changed = density @ mixing.astype(np.float32) + (shift @ _HED).astype(np.float32)
    rgb = np.exp(-np.maximum(changed, 0)) * 255.0
    return np.asarray(np.ascontiguousarray(np.clip(rgb, 0, 255).astype(np.uint8)[:, :, ::-1]), np.uint8)


def illuminate(image: Image, rng: np.random.Generator) -> Image:
    """Change exposure, and let the light fall off to one side of a BGR image."""
    height, width = image.shape[:2]
    slope = rng.uniform(-0.15, 0.15, 2)
    field = (
        rng.uniform(0.85, 1.12)
        + slope[0] * np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
        + slope[1] * np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    )
    return np.asarray(np.clip(image * field[:, :, None].astype(np.float32), 0, 255), np.uint8)
