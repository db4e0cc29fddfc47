"""The typeface of the PDF report: Fira Sans (OFL-1.1), whose files the package fontpkg-fira-sans brings.

It has the letters of Latin, Greek and Cyrillic scripts, Vietnamese among them. A report embeds those that it uses.
"""

import unicodedata
from importlib.resources import files
from io import BytesIO
from threading import Lock
from typing import Final

from reportlab.pdfbase import pdfmetrics  # type: ignore[import-untyped]
from reportlab.pdfbase.ttfonts import TTFont  # type: ignore[import-untyped]

REGULAR: Final = "FiraSans-Regular"
BOLD: Final = "FiraSans-Bold"
_PACKAGE: Final = "fontpkg_fira_sans"
_LOCK = Lock()


def register() -> None:
    """Make the typeface known to reportlab, once a process; this must come before anything is drawn.

    Raises:
        ImportError: If fontpkg-fira-sans is not installed.
    """
    with _LOCK:  # a font that is registered anew tears a report in the making
        if REGULAR in pdfmetrics.getRegisteredFontNames():
            return
        folder = files(_PACKAGE) / "files"
        for name in (BOLD, REGULAR):
            pdfmetrics.registerFont(TTFont(name, BytesIO(folder.joinpath(f"{name}.ttf").read_bytes())))
        pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=BOLD, italic=REGULAR, boldItalic=BOLD)


def printable(text: str) -> str:
    """Return a text in the letters that the typeface has, accents joined to theirs; others become question marks."""
    has = pdfmetrics.getFont(REGULAR).face.charToGlyph
    return "".join(one if ord(one) in has else "?" for one in unicodedata.normalize("NFC", text))
