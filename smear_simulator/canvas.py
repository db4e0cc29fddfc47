"""The canvas: maps of stain on one field, and the putting of patches onto it."""
# ruff: noqa: PLR2004 (a picture is made of numbers; each stands where it is drawn)

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smear_simulator.noise import FloatImage


@dataclass(slots=True)
class Layer:
    """Stained matter: how much of it covers a pixel (0 to 1), how densely, in which tint."""

    cover: FloatImage
    density: FloatImage
    tint: FloatImage

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "Layer":
        """Return a layer without matter."""
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.full(shape, 0.45, np.float32))


@dataclass(slots=True)
class Patch:
    """A small picture of one cell: top-left corner (pixels) and maps of one shape."""

    left: int
    top: int
    cover: FloatImage
    density: FloatImage
    tint: FloatImage
    nucleus: FloatImage | None = None


@dataclass(slots=True)
class Canvas:
    """Maps of one field of view, all of one shape.

    Attributes:
        red: Optical thickness of red cells, overlaps added.
        white: White cells whose colours the stain step balances.
        fixed: Matter whose colours are its own (eosinophils, platelets), equally common in every class.
        nucleus_mask: 255 inside nuclei.
        white_mask: 255 inside white cells.
    """

    red: FloatImage
    white: Layer
    fixed: Layer
    nucleus_mask: npt.NDArray[np.uint8]
    white_mask: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "Canvas":
        """Return an empty field of ``shape`` (height, width)."""
        return cls(
            np.zeros(shape, np.float32),
            Layer.empty(shape),
            Layer.empty(shape),
            np.zeros(shape, np.uint8),
            np.zeros(shape, np.uint8),
        )

    def window(
        self, left: int, top: int, size: tuple[int, int]
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        """Return the slices (on the canvas, on the patch) where a patch of ``size`` (height, width) lies, if any."""
        height, width = self.red.shape
        y0, y1 = max(top, 0), min(top + size[0], height)
        x0, x1 = max(left, 0), min(left + size[1], width)
        if y0 >= y1 or x0 >= x1:
            return None
        return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))

    def put(self, patch: Patch, *, fixed: bool) -> None:
        """Lay a stained cell over what is there."""
        found = self.window(patch.left, patch.top, patch.cover.shape)
        if found is None:
            return
        here, there = found
        layer, other = (self.fixed, self.white) if fixed else (self.white, self.fixed)
        cover = patch.cover[there]
        keep = 1 - cover
        layer.density[here] = layer.density[here] * keep + patch.density[there] * cover
        touched = cover > 0.004
        np.copyto(layer.tint[here], patch.tint[there], where=touched)
        layer.cover[here] = np.maximum(layer.cover[here], cover)
        other.density[here] *= keep
        other.cover[here] *= keep
        if patch.nucleus is not None:
            inside = cover > 0.5
            self.white_mask[here][inside] = 255
            nucleus = self.nucleus_mask[here]
            nucleus[inside] = 0
            nucleus[patch.nucleus[there] > 0.5] = 255
