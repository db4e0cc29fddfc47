"""What a capture gives: the picture, and the truth about it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell in a frame.

    Attributes:
        kind: ``red_cell``, ``platelet`` or the name of a kind of white cell.
        box: x, y, width, height in pixels, cut at the frame's border.
        centre: x, y in pixels; may lie outside the frame.
    """

    kind: str
    box: tuple[int, int, int, int]
    centre: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Truth:
    """What really is in a frame.

    Attributes:
        disease: One of ``CLASSES``.
        cells: Every cell of which some part is in the frame, white cells first.
        nucleus_mask: (H, W) uint8, 255 inside white cells' nuclei.
        white_cell_mask: (H, W) uint8, 255 inside white cells.
        red_cell_mask: (H, W) uint8, 255 where a red cell can be seen.
        blank: The field holds no cells.
        out_of_focus: The focus error exceeds 3 micrometres.
    """

    disease: str
    cells: tuple[Cell, ...]
    nucleus_mask: Mask
    white_cell_mask: Mask
    red_cell_mask: Mask
    blank: bool
    out_of_focus: bool

    @property
    def white_cells(self) -> tuple[Cell, ...]:
        """Return the white cells alone."""
        return tuple(cell for cell in self.cells if cell.kind not in ("red_cell", "platelet"))


@dataclass(frozen=True, slots=True)
class Field:
    """One captured field of view.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        truth: What is in it.
        patient_id: Opaque identifier.
        pixel_size_um: Size of a pixel on the slide.
        stage_x_um: Stage position of the field's centre when captured.
        stage_y_um: Likewise.
        focus_um: Focus error as set (0 is sharp), without the camera's own small error.
        exposure_ms: Exposure time as set.
    """

    image: npt.NDArray[np.uint8]
    truth: Truth
    patient_id: str
    pixel_size_um: float
    stage_x_um: float
    stage_y_um: float
    focus_um: float
    exposure_ms: float
