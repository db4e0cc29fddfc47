"""The case as a PDF of one or two pages, made by a pure function: the same report and images give the same bytes."""

from collections.abc import Mapping

from clinician_dashboard.reports.case_report import CaseReport, ReportFrame, choose_frames
from clinician_dashboard.reports.errors import MissingPart

MEDIA_TYPE = "application/pdf"
PICTURED = 8
"""Frames with pictures: they fill one page."""
_PACKAGES = {"reportlab": "reportlab", "fontpkg_fira_sans": "fontpkg-fira-sans"}


def pictured_frames(report: CaseReport) -> tuple[ReportFrame, ...]:
    """Return the frames that the PDF shows; `case_pdf` wants the images of these."""
    return choose_frames(report.frames, PICTURED, leading=report.result.leading)


def case_pdf(report: CaseReport, images: Mapping[str, bytes]) -> bytes:
    """Return the report as PDF.

    Args:
        report: The case.
        images: Of `pictured_frames`, by frame id; a missing or unreadable one is said to be missing.

    Raises:
        MissingPart: If reportlab, its typeface (fontpkg-fira-sans) or Pillow is not installed.
    """
    try:
        from clinician_dashboard.reports.layout import draw  # noqa: PLC0415 - reportlab takes half a second
        from clinician_dashboard.reports.typeface import register  # noqa: PLC0415

        register()
    except ImportError as error:
        package = _PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise MissingPart(f"PDF needs the package {package}: install the extra hemolink[reports]") from None
    return draw(report, pictured_frames(report), images)
