"""A simulated microscope: a camera above a stage, with focus and exposure."""
# ruff: noqa: PLR2004 (a picture is made of numbers; each stands where it is drawn)

from collections import OrderedDict

import cv2
import numpy as np

from smear_simulator.canvas import Canvas, Patch
from smear_simulator.errors import SettingError
from smear_simulator.field import Cell, Field, Truth
from smear_simulator.noise import FloatImage, crop, texture
from smear_simulator.optics import Faults, add_bubble, add_dust, blur_sigma_px, expose, illumination
from smear_simulator.patient import Patient
from smear_simulator.red_cell import draw_platelet, draw_red_cells
from smear_simulator.stain import optical_density
from smear_simulator.tissue import Tile, WhiteCell, plan_tile
from smear_simulator.white_cell import draw_white_cell

_COLUMNS = 12  # fields in a row before the stage turns back
_NORMAL_EXPOSURE_MS = 10.0
_KEPT_TILES = 64
_SOFT_LIMIT_PX = 1.7  # blur up to here is part of the tissue's picture; more comes after the stain
_OUT_OF_FOCUS_UM = 3.0
_STRAND_UM = 3.1


class Microscope:
    """A microscope with one slide on its stage.

    The same patient and stage position show the same tissue whenever one looks; noise, dust and the small
    errors of focus and exposure differ from capture to capture and follow ``seed``.

    Attributes:
        patient: Whose slide is on the stage.
        focus_um: Distance from focus; 0 is sharp.
        exposure_ms: Exposure time; 10 is right.
    """

    def __init__(
        self,
        patient: Patient,
        *,
        width: int = 640,
        height: int = 480,
        pixel_size_um: float = 0.125,
        seed: int = 0,
        faults: Faults | None = None,
        captures: int = 0,
    ) -> None:
        """Put a slide on the stage.

        Args:
            patient: Whose slide.
            width: Frame width in pixels, 64 to 4096.
            height: Frame height in pixels, 64 to 4096.
            pixel_size_um: Size of a pixel on the slide, 0.04 to 1 micrometre.
            seed: Seed of everything that is not tissue.
            faults: How often things go wrong; mild by default.
            captures: How many pictures were taken before this one began: with the same number, noise and faults go on
                as they would have.

        Raises:
            SettingError: If a size is outside its range.
        """
        if not (64 <= width <= 4096 and 64 <= height <= 4096):
            message = f"frame of {width} x {height} pixels; each side must be 64 to 4096"
            raise SettingError(message)
        if not 0.04 <= pixel_size_um <= 1:
            message = f"pixel size {pixel_size_um} um; it must be 0.04 to 1"
            raise SettingError(message)
        self.patient = patient
        self.focus_um = 0.0
        self.exposure_ms = _NORMAL_EXPOSURE_MS
        self._width, self._height, self._pixel_um = width, height, pixel_size_um
        self._seed = seed
        self._faults = faults or Faults()
        self._captures = captures
        self._fields = 0
        self._tiles: OrderedDict[tuple[int, int], Tile] = OrderedDict()
        self._x_um, self._y_um = self._field_centre(0)

    @property
    def position_um(self) -> tuple[float, float]:
        """Return the stage position: x and y of the field's centre."""
        return self._x_um, self._y_um

    def move_to(self, *, x_um: float, y_um: float) -> None:
        """Move the stage so that this point of the slide is the field's centre."""
        self._x_um, self._y_um = float(x_um), float(y_um)

    def next_field(self) -> None:
        """Move the stage to the next field, row by row and back, about one field further each time."""
        self._fields += 1
        self._x_um, self._y_um = self._field_centre(self._fields)

    def change_slide(self, patient: Patient) -> None:
        """Put another patient's slide on the stage and go to its first field."""
        self.patient = patient
        self._tiles.clear()
        self._fields = 0
        self._x_um, self._y_um = self._field_centre(0)

    def capture(self) -> Field:
        """Take a picture with the stage, focus and exposure as they stand."""
        rng = np.random.default_rng([self._seed, self.patient.seed, self._captures])
        self._captures += 1
        faults = self._faults
        blank = bool(rng.random() < faults.blank)
        lost = bool(rng.random() < faults.out_of_focus)
        focus = self.focus_um + float(rng.normal(0, faults.defocus_um))
        if lost:
            focus += float(rng.choice([-1, 1]) * rng.uniform(6, 15))
        drift = rng.normal(0, faults.drift_um, 2)
        origin = (
            self._x_um + float(drift[0]) - self._width * self._pixel_um / 2,
            self._y_um + float(drift[1]) - self._height * self._pixel_um / 2,
        )
        lamp = np.random.default_rng(
            [self.patient.seed, 5]
        )  # the laboratory's lamp and lens go with the slide
        base_um = float(lamp.uniform(0.085, 0.15))
        noise = float(lamp.uniform(0.8, 3.2))
        light = illumination((self._height, self._width), lamp)
        sigma = blur_sigma_px(focus, base_um, self._pixel_um)

        canvas, cells = self._draw(origin, blank=blank)
        density = self._stained(canvas, sigma)
        image = self._transmitted(density, light)
        if rng.random() < faults.dust:
            add_dust(image, rng)
        if rng.random() < faults.bubble:
            add_bubble(image, rng)
        gain = self.exposure_ms / _NORMAL_EXPOSURE_MS * float(np.exp(rng.normal(0, faults.exposure)))
        picture = cv2.convertScaleAbs(np.maximum(expose(image, gain, noise, rng), 0))
        red = ((canvas.red > 0.12) & (canvas.white_mask == 0)).astype(np.uint8) * np.uint8(255)
        truth = Truth(
            disease=self.patient.disease,
            cells=cells,
            nucleus_mask=canvas.nucleus_mask,
            white_cell_mask=canvas.white_mask,
            red_cell_mask=red,
            blank=blank,
            out_of_focus=abs(focus) > _OUT_OF_FOCUS_UM,
        )
        return Field(
            image=np.asarray(picture, dtype=np.uint8),
            truth=truth,
            patient_id=self.patient.patient_id,
            pixel_size_um=self._pixel_um,
            stage_x_um=self._x_um,
            stage_y_um=self._y_um,
            focus_um=self.focus_um,
            exposure_ms=self.exposure_ms,
        )

    def _tile_um(self) -> tuple[float, float]:
        return self._width * self._pixel_um, self._height * self._pixel_um

    def _field_centre(self, index: int) -> tuple[float, float]:
        row, along = divmod(index, _COLUMNS)
        column = along if row % 2 == 0 else _COLUMNS - 1 - along
        wide, high = self._tile_um()
        # Not quite on the tissue's own grid, so that frames cut cells at their borders.
        wobble = np.random.default_rng([self.patient.seed, 6, index]).uniform(-0.09, 0.09, 2)
        return (column + 0.5 + float(wobble[0])) * wide, (row + 0.5 + float(wobble[1])) * high

    def _tile(self, column: int, row: int) -> Tile:
        key = (column, row)
        tile = self._tiles.get(key)
        if tile is None:
            tile = plan_tile(self.patient, column, row, size_um=self._tile_um())
            self._tiles[key] = tile
            while len(self._tiles) > _KEPT_TILES:
                self._tiles.popitem(last=False)
        return tile

    def _draw(self, origin: tuple[float, float], *, blank: bool) -> tuple[Canvas, tuple[Cell, ...]]:
        canvas = Canvas.empty((self._height, self._width))
        if blank:
            return canvas, ()
        wide, high = self._tile_um()
        margin = 14.0  # no cell reaches further
        columns = range(int((origin[0] - margin) // wide), int((origin[0] + wide + margin) // wide) + 1)
        rows = range(int((origin[1] - margin) // high), int((origin[1] + high + margin) // high) + 1)
        tiles = [self._tile(column, row) for row in rows for column in columns]
        white = [cell for tile in tiles for cell in tile.white]
        red = _in_view(np.vstack([tile.red for tile in tiles]), origin, (wide, high))
        platelets = _in_view(np.vstack([tile.platelets for tile in tiles]), origin, (wide, high))
        red = red[_free_of(white, red, 0.55)]
        platelets = platelets[_free_of(white, platelets, 1.0)]
        draw_red_cells(canvas, self.patient, red, origin_um=origin, pixel_um=self._pixel_um)
        for row in platelets:
            canvas.put(draw_platelet(row, origin_um=origin, pixel_um=self._pixel_um), fixed=True)
        cells: list[Cell] = []
        for cell in white:
            if not _visible(cell, origin, (wide, high)):
                continue
            patch = draw_white_cell(cell, self.patient, origin_um=origin, pixel_um=self._pixel_um)
            box = self._box(patch, frayed=cell.kind.shape == "smudge")
            if box is None:
                continue
            canvas.put(patch, fixed=cell.kind.name == "eosinophil")
            centre = ((cell.x_um - origin[0]) / self._pixel_um, (cell.y_um - origin[1]) / self._pixel_um)
            cells.append(Cell(cell.kind.name, box, centre))
        cells += self._round_cells("red_cell", red, origin)
        cells += self._round_cells("platelet", platelets, origin)
        return canvas, tuple(cells)

    def _box(self, patch: Patch, *, frayed: bool) -> tuple[int, int, int, int] | None:
        seen = (patch.cover > 0.5).astype(np.uint8)
        if frayed:  # box the body of a smudge cell, not the tips of its strands
            width = round(_STRAND_UM / self._pixel_um) | 1
            brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
            body = cv2.morphologyEx(seen, cv2.MORPH_OPEN, brush)
            seen = np.asarray(body if body.any() else seen, dtype=np.uint8)
        x, y, width, height = cv2.boundingRect(seen)
        return self._cut(x + patch.left, y + patch.top, width, height)

    def _cut(self, x: int, y: int, width: int, height: int) -> tuple[int, int, int, int] | None:
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, self._width), min(y + height, self._height)
        return (x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None

    def _round_cells(self, kind: str, rows: np.ndarray, origin: tuple[float, float]) -> list[Cell]:
        found = []
        for x_um, y_um, radius_um, _ in rows:
            x, y = (x_um - origin[0]) / self._pixel_um, (y_um - origin[1]) / self._pixel_um
            radius = radius_um / self._pixel_um
            box = self._cut(round(x - radius), round(y - radius), round(2 * radius), round(2 * radius))
            if box is not None:
                found.append(Cell(kind, box, (float(x), float(y))))
        return found

    def _stained(self, canvas: Canvas, sigma: float) -> FloatImage:
        # Blur comes before the stain is balanced, or fine chromatin would lose contrast that coarse keeps.
        first = min(sigma, _SOFT_LIMIT_PX)
        for layer in (canvas.white, canvas.fixed):
            for field in (layer.cover, layer.density):
                cv2.GaussianBlur(field, (0, 0), first, dst=field)
        cv2.GaussianBlur(canvas.red, (0, 0), first, dst=canvas.red)
        dither = crop(texture("grain", 0.125), canvas.red.shape, np.random.default_rng(self.patient.seed))
        density = optical_density(canvas, self.patient, dither)
        if sigma > _SOFT_LIMIT_PX:
            cv2.GaussianBlur(density, (0, 0), float(np.sqrt(sigma**2 - first**2)), dst=density)
        return density

    def _transmitted(self, density: FloatImage, light: FloatImage) -> FloatImage:
        image = np.asarray(cv2.exp(-density), dtype=np.float32)
        image *= light
        image *= np.array(self.patient.stain.background, np.float32)
        return image


def _in_view(rows: np.ndarray, origin: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    x, y, radius = rows[:, 0] - origin[0], rows[:, 1] - origin[1], rows[:, 2] * 1.3
    return rows[(x > -radius) & (x < size[0] + radius) & (y > -radius) & (y < size[1] + radius)]


def _free_of(white: list[WhiteCell], rows: np.ndarray, overlap: float) -> np.ndarray:
    """Which round cells lie clear of white cells, which push them aside; ``overlap`` 1 is touching."""
    if not white or not len(rows):
        return np.ones(len(rows), bool)
    where = np.array([(cell.x_um, cell.y_um, cell.radius_um) for cell in white])
    gap = np.hypot(rows[:, None, 0] - where[:, 0], rows[:, None, 1] - where[:, 1])
    return np.asarray((gap > where[:, 2] + overlap * rows[:, None, 2]).all(axis=1))


def _visible(cell: WhiteCell, origin: tuple[float, float], size: tuple[float, float]) -> bool:
    reach = cell.radius_um * 1.8
    x, y = cell.x_um - origin[0], cell.y_um - origin[1]
    return -reach < x < size[0] + reach and -reach < y < size[1] + reach
