"""Drawing red cells and platelets."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from smear_simulator.canvas import Canvas, Patch
from smear_simulator.noise import FloatImage, crop, texture
from smear_simulator.patient import Patient

_TURNS = 256


@lru_cache(maxsize=64)
def _polar(size: int) -> tuple[FloatImage, npt.NDArray[np.uint8]]:
    """Return radius (pixels) and angle (in 256ths of a turn) about the middle of a square of ``size``."""
    axis = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    x, y = np.meshgrid(axis, axis)
    radius, angle = cv2.cartToPolar(x, y)
    return np.asarray(radius, np.float32), (angle * (_TURNS / (2 * np.pi))).astype(np.uint8)


def red_cell(patient: Patient, radius_um: float, seed: int, pixel_um: float) -> FloatImage:
    """Return the optical thickness of one red cell, about 1 at its rim, on a square patch centred on it."""
    rng = np.random.default_rng([seed, 12])
    radius = radius_um / pixel_um
    size = 2 * int(np.ceil(radius * 1.35)) + 2
    distance, angle = _polar(size)
    turn = np.arange(_TURNS, dtype=np.float32) * np.float32(2 * np.pi / _TURNS)
    outline = np.ones(_TURNS, np.float32)
    swing = patient.red_variation * np.array([0.9, 0.45, 0.22, 0.12])
    for wave, size_of in enumerate(swing, start=2):
        outline += np.float32(size_of * rng.normal()) * np.cos(wave * turn + np.float32(rng.uniform(0, 6.28)))
    crenated = rng.random() < patient.crenation
    if crenated:
        spikes = int(rng.integers(9, 15))
        outline += np.float32(rng.uniform(0.025, 0.06)) * np.cos(
            spikes * turn + np.float32(rng.uniform(0, 6.28))
        )
    rho = distance * (np.float32(1 / radius) / outline)[angle]
    pallor = float(np.clip(patient.pallor * np.exp(rng.normal(0, 0.3)), 0, 0.92)) * (0.4 if crenated else 1.0)
    hole = float(rng.uniform(0.28, 0.5))
    # A biconcave disc by radius: thin middle, thick ring, rounded border, soft edge about 0.3 um wide.
    knots = np.linspace(0, 1.4, 160, dtype=np.float32)
    middle = np.clip((knots - hole * 0.35) / (hole * 1.1), 0, 1)
    profile = 1 - pallor * (1 - middle * middle * (3 - 2 * middle))
    profile *= 1 - 0.16 * np.clip((knots - 0.55) / 0.4, 0, 1) ** 2
    profile *= np.clip(0.5 - (knots - 1) * radius_um / 0.38, 0, 1)
    table = (profile * rng.uniform(0.86, 1.12)).astype(np.float32)
    index = np.minimum(rho * np.float32(159 / 1.4), np.float32(159)).astype(np.uint8)
    return np.asarray(table[index], dtype=np.float32)


def draw_red_cells(
    canvas: Canvas,
    patient: Patient,
    cells: npt.NDArray[np.float64],
    *,
    origin_um: tuple[float, float],
    pixel_um: float,
) -> None:
    """Add red cells, given as rows of x, y, radius (micrometres) and seed, to the canvas; overlaps grow darker."""
    for x_um, y_um, radius_um, seed in cells:
        patch = red_cell(patient, float(radius_um), int(seed), pixel_um)
        half = patch.shape[0] // 2
        left = round((x_um - origin_um[0]) / pixel_um) - half
        top = round((y_um - origin_um[1]) / pixel_um) - half
        found = canvas.window(left, top, (patch.shape[0], patch.shape[1]))
        if found is not None:
            here, there = found
            canvas.red[here] += patch[there]


def draw_platelet(row: npt.NDArray[np.float64], *, origin_um: tuple[float, float], pixel_um: float) -> Patch:
    """Draw one platelet, given as x, y, radius (micrometres) and seed: a small purple granular disc."""
    x_um, y_um, radius_um, seed = (float(value) for value in row)
    rng = np.random.default_rng([int(seed), 13])
    half = int(np.ceil(radius_um * 1.7 / pixel_um)) + 2
    left = round((x_um - origin_um[0]) / pixel_um) - half
    top = round((y_um - origin_um[1]) / pixel_um) - half
    distance, angle = _polar(2 * half)
    turn = np.arange(_TURNS, dtype=np.float32) * np.float32(2 * np.pi / _TURNS)
    outline = 1 + np.float32(0.12) * np.cos(2 * turn + np.float32(rng.uniform(0, 6.28)))
    outline += np.float32(0.10) * np.cos(3 * turn + np.float32(rng.uniform(0, 6.28)))
    gap = distance * np.float32(pixel_um) - np.float32(radius_um) * outline[angle]
    cover = np.clip(0.5 - gap / np.float32(0.5), 0, 1)
    grain = crop(texture("medium", pixel_um), (2 * half, 2 * half), rng)
    core = np.exp(-((distance * np.float32(pixel_um / radius_um)) ** 2) * np.float32(1.5))
    density = np.float32(rng.uniform(0.25, 0.5)) * (1 + np.float32(0.9) * core * np.clip(grain, -0.4, 2))
    tint = np.full_like(density, rng.uniform(0.35, 0.6))
    return Patch(left, top, cover, density.astype(np.float32), tint)
