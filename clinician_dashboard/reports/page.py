"""The sheet of the PDF report: its measures and colours, what stands on every page, and text made safe to print."""

from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color, HexColor  # type: ignore[import-untyped]
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.units import mm  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

from clinician_dashboard.reports.case_report import CaseReport
from clinician_dashboard.reports.telling import intended_use
from clinician_dashboard.reports.typeface import BOLD, REGULAR, printable

WIDTH, HEIGHT = A4
MARGIN = 16 * mm
TOP = 30 * mm
BOTTOM = 17 * mm
INNER = WIDTH - 2 * MARGIN
PADDING = 6  # points that reportlab's own frame keeps free on each side
LONG = 480
"""Characters of a free text that are printed; the whole of it is in the record."""

INK = HexColor("#16202c")
SOFT = HexColor("#56616e")
LINE = HexColor("#c9d1da")
TRACK = HexColor("#e8ecf0")
BAND = HexColor("#1f3a5f")
ALARM = HexColor("#8a1c1c")
WATERMARK = Color(0.72, 0.11, 0.11, alpha=0.11)


class NumberedCanvas(Canvas):  # type: ignore[misc]
    """Writes "page 1 of 2": how many there are is known only at the end."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802 - reportlab's name
        """Keep the page until the number of pages is known."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Write every page with its number."""
        pages = self._pages
        for number, page in enumerate(pages, 1):
            self.__dict__.update(page)
            self.setFont(REGULAR, 7.5)
            self.setFillColor(SOFT)
            self.drawRightString(WIDTH - MARGIN, 9 * mm, f"Page {number} of {len(pages)}")
            super().showPage()
        super().save()


def draw_page(canvas: Canvas, report: CaseReport) -> None:
    """Draw what stands on every page, behind its content: what the report is, SIMULATED across it, case and version."""
    canvas.saveState()
    if report.simulated:
        canvas.saveState()
        canvas.translate(WIDTH / 2, HEIGHT / 2 - 10 * mm)
        canvas.rotate(54)
        canvas.setFillColor(WATERMARK)
        canvas.setFont(BOLD, 104)
        canvas.drawCentredString(0, -36, "SIMULATED")
        canvas.restoreState()
    canvas.setFillColor(ALARM if report.simulated else BAND)
    canvas.rect(0, HEIGHT - 12 * mm, WIDTH, 12 * mm, stroke=0, fill=1)
    canvas.setFillColor(HexColor("#ffffff"))
    _draw_fitting(
        canvas,
        intended_use(report),
        at=(MARGIN, HEIGHT - 7.6 * mm),
        font=(BOLD, 9.5),
        room=INNER - (24 * mm if report.simulated else 0),
    )
    canvas.setFont(BOLD, 9.5)
    if report.simulated:
        canvas.drawRightString(WIDTH - MARGIN, HEIGHT - 7.6 * mm, "SIMULATED")
    canvas.setFillColor(SOFT)
    canvas.setFont(REGULAR, 8.5)
    made = f"version {report.version}, made {utc(report.made_at)}"
    if report.signature is not None and report.signature.superseded_by is not None:
        made = f"SUPERSEDED by version {report.signature.superseded_by}; {made}"
    canvas.drawRightString(WIDTH - MARGIN, HEIGHT - 21 * mm, made)
    canvas.setFillColor(INK)
    room = INNER - canvas.stringWidth(made, REGULAR, 8.5) - 4 * mm
    _draw_fitting(
        canvas,
        f"Blood smear, {report.status} report: {plain(report.code)}",
        at=(MARGIN, HEIGHT - 21 * mm),
        font=(BOLD, 12.5),
        room=room,
    )
    canvas.setFillColor(SOFT)
    canvas.setStrokeColor(LINE)
    canvas.line(MARGIN, HEIGHT - 24 * mm, WIDTH - MARGIN, HEIGHT - 24 * mm)
    canvas.line(MARGIN, 13 * mm, WIDTH - MARGIN, 13 * mm)
    simulated = "SIMULATED, not for any patient's care. " if report.simulated else ""
    signature = report.signature
    signed = f"Signed by {plain(signature.name or signature.login)}" if signature else "Not signed"
    _draw_fitting(
        canvas,
        f"{simulated}{plain(report.site)} / {plain(report.code)}, version {report.version}. {signed}. "
        f"Hemolink {plain(report.software)}",
        at=(MARGIN, 9 * mm),
        font=(REGULAR, 7.5),
        room=INNER - 20 * mm,
    )
    canvas.restoreState()


def _draw_fitting(
    canvas: Canvas, text: str, *, at: tuple[float, float], font: tuple[str, float], room: float
) -> None:
    """Draw a line in a smaller size where it is too long: a code is never cut."""
    name, size = font
    canvas.setFont(name, min(size, size * room / canvas.stringWidth(text, name, size)))
    canvas.drawString(*at, text)


def plain(text: str) -> str:
    """Return a text in one line, in the letters that the typeface has; others become question marks."""
    text = "".join(one if one.isprintable() or one == "\u202f" else " " for one in text)
    return printable(text.replace("\u202f", "\u00a0"))


def inert(text: str) -> str:
    """Return a text that is shown as it stands: nothing in it is markup."""
    return escape(plain(" ".join(text.split())))


def shorten(text: str, most: int = LONG) -> str:
    """Return a text of at most ``most`` characters; dots say that there is more."""
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


def utc(moment: datetime) -> str:
    """Return a moment in UTC to the minute."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
