"""The stain: from maps of density and tint to colour, the same amount of every colour in every class.

White cells of all kinds share one palette in each field. Their pixels are ranked by density and, among
pixels of like density, by tint; the ranks are then filled with a distribution that depends on the patient's
stain and on the share of nucleus alone. Where the dark, the pale, the blue and the pink lie stays as the
cells' morphology has it; how much there is of each does not. So no histogram can name the disease.
"""
# ruff: noqa: PLR2004 (a picture is made of numbers; each stands where it is drawn)

import cv2
import numpy as np
import numpy.typing as npt

from smear_simulator.canvas import Canvas
from smear_simulator.noise import FloatImage
from smear_simulator.patient import Patient, Stain

_CHUNKS = 40
_BORDER = (0.01, 0.12, 0.15)  # density from the outside of a cell's soft border to its inside
_LEAST = 400  # pixels below which there is nothing to balance
_TINTS = 256
# Optical density of unit stain in B, G, R, at tints from basophilic blue over purple and lilac to eosin orange.
_KNOTS = (0.0, 0.40, 0.75, 1.0)
_COLOURS = np.array([[0.34, 0.86, 0.93], [0.52, 1.18, 0.86], [0.62, 1.12, 0.50], [1.22, 1.05, 0.28]])
_NORMAL = np.array([-2.33, -1.645, -1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28, 1.645, 2.33])
_SHARES = np.array([0.01, 0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90, 0.95, 0.99])


def palette(stain: Stain) -> FloatImage:
    """Return the optical density (256 x 3, BGR) of unit stain for tints 0 to 1, shifted as the patient's stain is."""
    tints = np.linspace(0, 1, _TINTS)
    table = np.stack([np.interp(tints, _KNOTS, _COLOURS[:, channel]) for channel in range(3)], axis=1)
    return np.asarray(table * _shift(stain), dtype=np.float32)


def red_colour(stain: Stain) -> FloatImage:
    """Return the optical density (3, BGR) of a red cell of unit thickness."""
    pink = np.array([0.78, 1.0, 0.48])
    grey = np.array([0.72, 0.86, 0.70])
    blend = np.clip((stain.tint - 0.24) / 0.28, 0, 1)
    colour = stain.red_density * (blend * pink + (1 - blend) * grey) * _shift(stain)
    return np.asarray(colour, dtype=np.float32)


def _shift(stain: Stain) -> npt.NDArray[np.float64]:
    # To first order: L* moves all channels, a* green against red, b* blue against yellow.
    light, a, b = stain.lab_shift
    return np.clip(1 - 0.02 * light + np.array([0.012 * b, 0.010 * a, -0.010 * a - 0.004 * b]), 0.4, 1.8)


def balance(canvas: Canvas, stain: Stain, dither: FloatImage) -> npt.NDArray[np.intp]:
    """Give the white cells' pixels the field's palette, in place.

    Args:
        canvas: The field; its white layer's density already contains the cover.
        stain: The patient's stain.
        dither: Noise of the canvas's shape that breaks ties.

    Returns:
        Flat indices of the layer's pixels.
    """
    layer = canvas.white
    index = np.flatnonzero(layer.cover.ravel() > 0.03)
    n = len(index)
    # The field's budgets are areas by mask. Soft borders beyond the mask are longer in ragged cells, so they
    # get a faint ramp of their own and leave the palette alone.
    body = int(np.count_nonzero(canvas.white_mask.ravel()[index]))
    if body < _LEAST:
        return index
    density = layer.density.ravel()[index] + np.float32(0.004) * dither.ravel()[index]
    tint = layer.tint.ravel()[index] + np.float32(0.004) * dither.ravel()[index]
    order = np.argsort((np.clip(density, 0, 4) * 16000).astype(np.uint16), kind="stable")
    share = float(np.count_nonzero(canvas.nucleus_mask.ravel()[index])) / body
    rank, value = _density_quantiles(share, stain)
    border = n - body
    faint = np.interp(np.arange(border), [0, 0.55 * border, border], _BORDER)
    target = np.concatenate([faint, np.interp((np.arange(body) + 0.5) / body, rank, value)]).astype(
        np.float32
    )
    new_density = np.empty(n, np.float32)
    new_density[order] = target

    per_chunk = n // _CHUNKS
    used = per_chunk * _CHUNKS
    head = order[n - used :]  # the few palest pixels left over keep the mean tint
    by_density = (np.clip(tint[head] + 0.5, 0, 2) * 30000).astype(np.uint16).reshape(_CHUNKS, per_chunk)
    within = np.argsort(by_density, axis=1, kind="stable")
    middle = target[n - used :].reshape(_CHUNKS, per_chunk).mean(axis=1)
    nucleus_like = np.clip((middle - 0.55) / 0.35, 0, 1)
    mean = stain.tint + nucleus_like * (stain.nucleus_tint - stain.tint)
    spread = stain.tint_spread + nucleus_like * (0.045 - stain.tint_spread)
    z = np.interp((np.arange(per_chunk) + 0.5) / per_chunk, _SHARES, _NORMAL)
    new_tint = np.full(n, stain.tint, np.float32)
    filled = np.empty((_CHUNKS, per_chunk), np.float32)
    np.put_along_axis(filled, within, (mean[:, None] + spread[:, None] * z).astype(np.float32), axis=1)
    new_tint[head] = filled.ravel()
    layer.density.ravel()[index] = new_density
    layer.tint.ravel()[index] = np.clip(new_tint, 0, 0.82)
    return index


def _density_quantiles(share: float, stain: Stain) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Knots of the density's quantile function for a field whose cells are ``share`` nucleus."""
    pale = min(max(1 - share, 0.02), 0.98)
    z = _NORMAL[1:-1]
    p = _SHARES[1:-1]
    cytoplasm = np.maximum(stain.cytoplasm_density + stain.cytoplasm_spread * z, 0.14)
    nucleus = np.maximum(stain.nucleus_density + stain.nucleus_spread * z, 0.5)
    rank = np.concatenate([[0], pale * p, pale + (1 - pale) * p, [1.0]])
    top = stain.nucleus_density + 2.6 * stain.nucleus_spread
    value = np.concatenate([[_BORDER[-1]], cytoplasm, nucleus, [top]])
    return rank, np.maximum.accumulate(value)


def optical_density(canvas: Canvas, patient: Patient, dither: FloatImage) -> FloatImage:
    """Return the field's optical density (H, W, 3), BGR, from its maps."""
    stain = patient.stain
    index = balance(canvas, stain, dither)
    clear = 1 - np.minimum(canvas.white.cover + canvas.fixed.cover, 1)
    red = canvas.red * clear
    # Two layers of cells absorb a little less than the sum: light is scattered, the film is not flat.
    red = red / (1 + np.float32(0.12) * red)
    field = np.asarray(cv2.merge([red * float(part) for part in red_colour(stain)]), dtype=np.float32)
    flat = field.reshape(-1, 3)
    colours = palette(stain)
    for layer, places in (
        (canvas.white, index),
        (canvas.fixed, np.flatnonzero(canvas.fixed.cover.ravel() > 0.01)),
    ):
        shade = (np.clip(layer.tint.ravel()[places], 0, 1) * (_TINTS - 1)).astype(np.uint8)
        flat[places] += colours[shade] * layer.density.ravel()[places][:, None]
    return field
