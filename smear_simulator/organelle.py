"""What fills a white cell: chromatin, nucleoli, granules, vacuoles, Auer rods."""
# ruff: noqa: PLR2004 (a picture is made of numbers; each stands where it is drawn)

from dataclasses import dataclass

import cv2
import numpy as np

from smear_simulator.kind import Kind
from smear_simulator.noise import FloatImage, crop, texture
from smear_simulator.patient import Patient

_SHIFT = 4  # OpenCV draws with 1/16 pixel


@dataclass(frozen=True, slots=True)
class Frame:
    """Where things are in a cell's patch; the cell's own axes are turned, +y being its free side."""

    kind: Kind
    rng: np.random.Generator
    pixel_um: float
    pixels: int
    centre: tuple[float, float]
    cosine: float
    sine: float
    lean: float
    nuclear_radius: float
    radius: float

    def at(self, across: float, along: float) -> tuple[float, float]:
        """Return the pixel of a point given in micrometres along the cell's axes from the cell's centre."""
        x = self.centre[0] + (self.cosine * across - self.sine * along) / self.pixel_um
        y = self.centre[1] + (self.sine * across + self.cosine * along) / self.pixel_um
        return x, y

    def noise(self, name: str, scale: float = 1.0) -> FloatImage:
        """Return a crop of a texture for this patch; ``scale`` above 1 coarsens it."""
        shape = (self.pixels, self.pixels)
        return crop(texture(name, self.pixel_um / round(scale, 1)), shape, self.rng)

    def spots(self, places: list[tuple[float, float, float]], blur_um: float) -> FloatImage:
        """Return a map, 0 to 1, of soft discs given as pixel x, pixel y, radius in micrometres."""
        field = np.zeros((self.pixels, self.pixels), np.float32)
        unit = 1 << _SHIFT
        for x, y, radius in places:
            centre = (round(x * unit), round(y * unit))
            cv2.circle(
                field, centre, max(1, round(radius / self.pixel_um * unit)), 1.0, -1, cv2.LINE_8, _SHIFT
            )
        sigma = blur_um / self.pixel_um
        return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), dtype=np.float32) if places else field


def draw_cytoplasm(frame: Frame, body: FloatImage, nucleus: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Return density and tint of the cell without its nucleus; ``body`` and ``nucleus`` are signed distances."""
    kind, rng = frame.kind, frame.rng
    level = kind.cytoplasm_density * float(np.exp(rng.normal(0, 0.20)))
    hue = kind.cytoplasm_tint + float(rng.normal(0, 0.07))
    if kind.shape == "smudge":
        strands = np.float32(0.30) * frame.noise("coarse") + np.float32(0.20) * frame.noise("shade")
        density = level * np.clip(1 + strands, 0.2, 3) * np.clip(1 - nucleus * np.float32(0.13), 0.3, 1)
        return density.astype(np.float32), hue + np.float32(0.05) * frame.noise("shade")
    density = np.float32(level) * (
        1 + np.float32(0.10) * frame.noise("shade") + np.float32(0.07) * frame.noise("fine")
    )
    if kind.cytoplasm_tint < 0.3:  # basophilic cytoplasm is deepest at the cell's border
        density *= 1 + np.float32(0.45) * np.exp(np.minimum(body, 0) * np.float32(1 / 0.55))
    tint = np.float32(hue) + np.float32(0.05) * frame.noise("shade")
    if kind.hof:
        place = frame.at(0, -frame.lean + frame.nuclear_radius * 1.05)
        zone = frame.spots([(*place, frame.nuclear_radius * 0.42)], 0.7) * np.float32(kind.hof)
        density *= 1 - np.float32(0.6) * zone
        tint += np.float32(0.15) * zone
    if kind.granule > 0:
        speck = frame.noise("fine" if kind.granule > 0.5 else "grain")
        grain = np.clip(speck - np.float32(0.6), 0, 1.6) * np.float32(kind.granule)
        density += grain * np.float32(0.28)
        tint += grain * np.float32(0.10 if kind.cytoplasm_tint < 0.9 else 0.02)
    if kind.vacuoles:
        density *= 1 - np.float32(0.75) * _vacuoles(frame)
    return density, tint


def _vacuoles(frame: Frame) -> FloatImage:
    rng = frame.rng
    places = []
    for _ in range(int(rng.integers(frame.kind.vacuoles + 1))):
        reach = frame.radius * float(rng.uniform(0.45, 0.9))
        angle = float(rng.normal(np.pi / 2, 0.9))
        places.append(
            (*frame.at(reach * np.cos(angle), reach * np.sin(angle)), float(rng.uniform(0.3, 0.75)))
        )
    return frame.spots(places, 0.12)


def draw_chromatin(frame: Frame, patient: Patient, nucleus: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Return density and tint of the nucleus."""
    kind, rng = frame.kind, frame.rng
    level = kind.nucleus_density * float(np.exp(rng.normal(0, 0.10)))
    hue = kind.nucleus_tint + float(rng.normal(0, 0.035))
    contrast = np.float32(kind.contrast * patient.chromatin_contrast * np.exp(rng.normal(0, 0.1)))
    scale = patient.chromatin
    if kind.chromatin == "clumped":
        # Blocks with pale seams between them, the "soccer ball" of a mature lymphocyte.
        pattern = np.tanh(np.float32(1.9) * frame.noise("clumped", scale)) + np.float32(0.25) * frame.noise(
            "fine"
        )
    elif kind.chromatin == "lacy":
        pattern = np.float32(1.1) - np.float32(1.5) * np.abs(frame.noise("coarse", scale))
    elif kind.chromatin == "coarse":
        pattern = np.tanh(np.float32(1.3) * frame.noise("coarse", scale)) + np.float32(0.3) * frame.noise(
            "fine"
        )
    elif kind.chromatin == "medium":
        pattern = np.tanh(frame.noise("medium", scale)) + np.float32(0.3) * frame.noise("coarse", scale)
    else:
        pattern = frame.noise("fine", scale) + np.float32(0.45) * frame.noise("grain")
    pattern = pattern * contrast
    density = level * (1 + pattern + np.float32(0.05) * frame.noise("shade"))
    if kind.shape != "smudge":
        density *= 1 + np.float32(0.10) * np.exp(np.minimum(nucleus, 0) * np.float32(1 / 0.4))  # the membrane
    tint = np.float32(hue) - np.float32(0.10) * pattern
    if kind.nucleoli:
        _nucleoli(frame, density, tint)
    if kind.granule < 0:
        _cover_with_granules(frame, density)
    return density.astype(np.float32), tint.astype(np.float32)


def _nucleoli(frame: Frame, density: FloatImage, tint: FloatImage) -> None:
    kind, rng = frame.kind, frame.rng
    least = 1 if kind.nucleolus_contrast > 0.15 else 0
    count = int(rng.integers(least, kind.nucleoli + 1))
    places = []
    for index in range(count):
        reach = frame.nuclear_radius * (0.15 if count == 1 else 0.5) * float(rng.uniform(0.6, 1.25))
        angle = 2 * np.pi * (index + float(rng.uniform(-0.25, 0.25))) / count + frame.lean * 7
        x, y = reach * np.cos(angle), reach * np.sin(angle) - frame.lean - 0.12 * frame.nuclear_radius
        size = float(rng.uniform(0.75, 1.15)) * (1.25 if count == 1 else 1.0)
        places.append((*frame.at(x, y), size))
    pale = frame.spots(places, 0.20)
    ring = frame.spots([(x, y, size + 0.45) for x, y, size in places], 0.22) - pale
    density *= (
        1 - np.float32(kind.nucleolus_contrast) * pale + np.float32(0.45 * kind.nucleolus_contrast) * ring
    )
    tint -= np.float32(0.10) * pale


def _cover_with_granules(frame: Frame, density: FloatImage) -> None:
    """A basophil's granules hide its nucleus."""
    grain = np.clip((frame.noise("medium") - np.float32(0.35)) * np.float32(2.2), 0, 1)
    density += grain * np.float32(0.75)


def draw_rods(frame: Frame, patient: Patient, density: FloatImage, tint: FloatImage) -> None:
    """Draw the dark granules of a basophil over the whole cell, or Auer rods in a myeloblast, in place."""
    kind, rng = frame.kind, frame.rng
    if kind.granule < 0:
        speck = np.float32(0.55) * frame.noise("medium") + np.float32(0.75) * frame.noise("fine")
        grain = np.clip((speck - np.float32(0.38)) * np.float32(3.0), 0, 1)
        density += grain * (np.float32(1.45) - density) * np.float32(0.9)
        tint += grain * (np.float32(0.42) - tint)
    if not (kind.auer and patient.auer_rods and rng.random() < kind.auer):
        return
    field = np.zeros_like(density)
    unit = 1 << _SHIFT
    for _ in range(int(rng.integers(1, 3))):
        depth = -frame.lean + frame.nuclear_radius + float(rng.uniform(-0.3, 0.8))
        middle, tilt, reach = (
            float(rng.normal(0, 0.8)),
            float(rng.normal(0, 0.45)),
            float(rng.uniform(1.3, 2.3)),
        )
        ends = [frame.at(middle + way * reach, depth + way * reach * tilt) for way in (-1, 1)]
        points = [(round(x * unit), round(y * unit)) for x, y in ends]
        cv2.line(field, points[0], points[1], 1.0, max(1, round(0.42 / frame.pixel_um)), cv2.LINE_8, _SHIFT)
    rod = cv2.GaussianBlur(field, (0, 0), 0.09 / frame.pixel_um)
    density += rod * (np.float32(1.0) - density)
    tint += rod * (np.float32(0.85) - tint)
