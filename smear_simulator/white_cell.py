"""Drawing one white cell: its outline and nucleus, then what fills them."""

from functools import lru_cache

import cv2
import numpy as np

from smear_simulator.canvas import Patch
from smear_simulator.noise import FloatImage, crop, texture
from smear_simulator.nucleus import nucleus_distance
from smear_simulator.organelle import Frame, draw_chromatin, draw_cytoplasm, draw_rods
from smear_simulator.patient import Patient
from smear_simulator.tissue import WhiteCell

_ROUGH = {"round": 0.16, "indented": 0.28, "kidney": 0.34, "band": 0.20, "lobed": 0.20, "smudge": 0.6}


@lru_cache(maxsize=128)
def _grid(half: int) -> tuple[FloatImage, FloatImage]:
    axis = np.arange(half, dtype=np.float32) - np.float32((half - 1) / 2)
    x, y = np.meshgrid(axis, axis)
    return x, y


def _cover(distance: FloatImage, soft: float) -> FloatImage:
    """Cover from a signed distance: a smooth edge ``soft`` micrometres wide."""
    return np.asarray(np.clip(0.5 - distance * np.float32(1 / soft), 0, 1), dtype=np.float32)


def _levelled(distance: FloatImage, area_um2: float, *, point_um2: float, pixels: int) -> FloatImage:
    """Shift a distance field so that it encloses ``area_um2``, and bring it to ``pixels`` a side."""
    k = int(np.clip(area_um2 / point_um2, 1, distance.size - 1))
    shifted = distance - np.partition(distance.ravel(), k)[k]
    return np.asarray(cv2.resize(shifted, (pixels, pixels), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def draw_white_cell(
    cell: WhiteCell, patient: Patient, *, origin_um: tuple[float, float], pixel_um: float
) -> Patch:
    """Draw one white cell.

    Args:
        cell: The planned cell.
        patient: Whose slide it lies on.
        origin_um: Position of the field's top left corner on the slide.
        pixel_um: Size of a pixel.

    Returns:
        A patch whose areas of nucleus and cell are the planned ones (before neighbours cover them).
    """
    kind = cell.kind
    rng = np.random.default_rng([cell.seed, 11])
    smudge = kind.shape == "smudge"
    reach = cell.radius_um * (1.8 if smudge else 1.45) + 1.0
    half = int(np.ceil(reach / pixel_um))  # outlines are computed at half resolution: `half` points a side
    x_px, y_px = (cell.x_um - origin_um[0]) / pixel_um, (cell.y_um - origin_um[1]) / pixel_um
    left, top = round(x_px) - half, round(y_px) - half
    step = np.float32(2 * pixel_um)
    grid_x, grid_y = _grid(half)
    x = (grid_x + np.float32((left + half - x_px) / 2)) * step
    y = (grid_y + np.float32((top + half - y_px) / 2)) * step
    warp = texture("warp", 2 * pixel_um)
    bend_x, bend_y = crop(warp, (half, half), rng), crop(warp, (half, half), rng)

    # The nucleus leans off the centre; the bite of a kidney faces the free side.
    nuclear_radius = float(np.sqrt(cell.nucleus_um2 / np.pi))
    lean = max(cell.radius_um - nuclear_radius, 0.0) * kind.eccentric * float(rng.uniform(0.5, 1.0))
    turn = float(rng.uniform(0, 2 * np.pi))
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    rough = np.float32(_ROUGH[kind.shape])
    turned_x = cosine * x + sine * y + rough * bend_x
    turned_y = cosine * y - sine * x + rough * bend_y + np.float32(lean)
    nucleus = nucleus_distance(kind, cell.nucleus_um2, turned_x, turned_y, rng)
    pixels = 2 * half
    point = float(step) ** 2
    k = int(np.clip(cell.nucleus_um2 / point, 1, nucleus.size - 1))
    nucleus = nucleus - np.partition(nucleus.ravel(), k)[k]

    # The cell is an ellipse, bent and never tighter than its nucleus.
    bulge = np.float32(np.exp(rng.normal(0, 0.05)))
    stiff = np.float32(kind.rough * rng.uniform(0.6, 1.4))
    body = np.sqrt(((x + stiff * bend_y) * bulge) ** 2 + ((y - stiff * bend_x) / bulge) ** 2)
    body -= np.float32(cell.radius_um)
    body = np.minimum(body, nucleus - np.float32(0.0 if smudge else 0.28))
    if smudge:  # a crushed cell frays into strands
        strands = np.float32(0.32) * crop(texture("coarse", 2 * pixel_um), (half, half), rng)
        body += strands + np.float32(0.5) * bend_x
        nucleus = nucleus + np.float32(0.8) * strands
    body = _levelled(body, cell.nucleus_um2 + cell.cytoplasm_um2, point_um2=point, pixels=pixels)
    nucleus = np.asarray(
        cv2.resize(nucleus, (pixels, pixels), interpolation=cv2.INTER_LINEAR), dtype=np.float32
    )
    cover = _cover(body, 0.8 if smudge else 0.34)
    inside = _cover(nucleus, 1.5 if smudge else 0.30)

    frame = Frame(
        kind=kind,
        rng=rng,
        pixel_um=pixel_um,
        pixels=pixels,
        centre=(x_px - left, y_px - top),
        cosine=float(cosine),
        sine=float(sine),
        lean=lean,
        nuclear_radius=nuclear_radius,
        radius=cell.radius_um,
    )
    density, tint = draw_cytoplasm(frame, body, nucleus)
    chromatin, chromatin_tint = draw_chromatin(frame, patient, nucleus)
    density += inside * (chromatin - density)
    tint += inside * (chromatin_tint - tint)
    draw_rods(frame, patient, density, tint)
    return Patch(left, top, cover, density, tint, inside)
