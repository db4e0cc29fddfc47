"""What the PDF report draws: a probability with its interval, and a frame's picture with its scale."""

import io

from reportlab.lib.colors import Color, HexColor  # type: ignore[import-untyped]
from reportlab.lib.units import mm  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]
from reportlab.platypus import (  # type: ignore[import-untyped]
    Flowable,
    Image,
)

from clinician_dashboard.case_result import Share
from clinician_dashboard.reports.case_report import ReportFrame
from clinician_dashboard.reports.page import ALARM, INK, TRACK
from clinician_dashboard.reports.typeface import BOLD, REGULAR

PICTURE_WIDTH = 29 * mm
TALLEST = 23 * mm
SCALES_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SCALE_SHARE = 0.35


class Bar(Flowable):  # type: ignore[misc]
    """One probability: track, fill, and the interval as a whisker."""

    def __init__(self, share: Share, colour: Color) -> None:
        super().__init__()
        self._share = share
        self._colour = colour
        self._across = 0.0

    def wrap(self, width: float, _height: float) -> tuple[float, float]:
        """Take the width that is there."""
        self._across = width
        return width, 12

    def draw(self) -> None:
        """Draw it; reportlab has moved the origin to its corner."""
        canvas, across, share = self.canv, self._across, self._share
        canvas.setFillColor(TRACK)
        canvas.rect(0, 3, across, 6, stroke=0, fill=1)
        canvas.setFillColor(self._colour)
        canvas.rect(0, 3, across * share.probability, 6, stroke=0, fill=1)
        canvas.setStrokeColor(INK)
        canvas.setLineWidth(0.8)
        canvas.line(across * share.low, 6, across * share.high, 6)
        for end in (share.low, share.high):
            canvas.line(across * end, 3, across * end, 9)


class Picture(Flowable):  # type: ignore[misc]
    """A thumbnail with a scale bar, and SIMULATED on it where it is."""

    def __init__(self, jpeg: bytes, frame: ReportFrame, aspect: float) -> None:
        super().__init__()
        self._jpeg = jpeg
        self._frame = frame
        self.height = min(TALLEST, PICTURE_WIDTH * aspect)
        self.width = self.height / aspect

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        """Ask for its own size."""
        return self.width, self.height

    def draw(self) -> None:
        """Draw it; reportlab has moved the origin to its corner."""
        canvas = self.canv
        Image(io.BytesIO(self._jpeg), self.width, self.height).drawOn(canvas, 0, 0)
        if self._frame.simulated:
            canvas.setFillColor(ALARM)
            canvas.rect(
                0,
                self.height - 7.5,
                min(self.width, 4.1 * len(self._frame.simulated) + 4),
                7.5,
                stroke=0,
                fill=1,
            )
            canvas.setFillColor(HexColor("#ffffff"))
            canvas.setFont(BOLD, 5.5)
            canvas.drawString(2, self.height - 5.8, self._frame.simulated)
        self._draw_scale(canvas)

    def _draw_scale(self, canvas: Canvas) -> None:
        if not self._frame.pixel_size_um:
            return
        field_um = self._frame.width * self._frame.pixel_size_um
        fitting = [length for length in SCALES_UM if length <= field_um * SCALE_SHARE]
        if not fitting:
            return
        length = fitting[-1] / field_um * self.width
        label = f"{fitting[-1]} \u00b5m"
        canvas.setFillColor(Color(1, 1, 1, alpha=0.8))
        canvas.rect(self.width - max(length, 17) - 4, 1, max(length, 17) + 3, 9.5, stroke=0, fill=1)
        canvas.setFillColor(INK)
        canvas.rect(self.width - length - 2.5, 2, length, 1.4, stroke=0, fill=1)
        canvas.setFont(REGULAR, 5.5)
        canvas.drawRightString(self.width - 2.5, 4.8, label)
