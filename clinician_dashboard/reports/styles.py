"""Type and tables of the PDF report. Only its layout imports this."""

from reportlab.lib.styles import ParagraphStyle  # type: ignore[import-untyped]

from clinician_dashboard.reports.page import ALARM, INK, SOFT
from clinician_dashboard.reports.typeface import BOLD, REGULAR

BODY = ParagraphStyle("body", fontName=REGULAR, fontSize=9, leading=12, textColor=INK)
SMALL = ParagraphStyle("small", parent=BODY, fontSize=7.6, leading=9.8)
FAINT = ParagraphStyle("faint", parent=SMALL, textColor=SOFT)
HEADING = ParagraphStyle(
    "heading", parent=BODY, fontName=BOLD, fontSize=10.5, leading=14, spaceBefore=9, spaceAfter=3
)
STRONG = ParagraphStyle("strong", parent=BODY, fontName=BOLD, fontSize=11.5, leading=15)
HEADLINE = ParagraphStyle("headline", parent=BODY, fontName=BOLD, fontSize=17, leading=21, spaceAfter=3)
ALERT = ParagraphStyle("alert", parent=BODY, fontName=BOLD, textColor=ALARM)

PLAIN = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 6),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
]
