"""What the pages of evidence have in common: one file each, nothing loaded from elsewhere, no script."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;color:#1d2733;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.2rem;border-top:1px solid #d5dbe2;padding-top:1rem}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.note{color:#4c5a69}.bad{color:#9c1c1c;font-weight:600}
.good{color:#1c6b3a;font-weight:600}.simulated{background:#7a1fa2;color:#fff;padding:.4rem .8rem;font-weight:700}
figure{margin:.6rem 0}img{width:9rem;height:9rem;object-fit:cover;border:1px solid #d5dbe2}svg{max-width:100%;height:auto}
.seen td{padding-right:.5rem}ul{padding-left:1.2rem}
"""


def document(title: str, body: str, *, style: str = "") -> str:
    """A whole page.

    Args:
        title: Of the browser's tab, as plain text.
        body: HTML.
        style: Further rules after the common ones.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>\n{body}\n</body></html>\n"
    )


def write_whole(path: Path, text: str) -> None:
    """Write a text file; an old one stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def picture(image: NDArray[np.uint8], *, quality: int = 80, alt: str = "") -> str:
    """An image (H, W, 3) uint8 BGR as an HTML element that carries its bytes as JPEG."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return (
        f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, text_columns: int = 1) -> str:
    """A table; all columns after the first `text_columns` are numbers, and stand to the right."""

    def line(cells: Sequence[Any], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if number < text_columns else ' class=n'}>{escape(str(cell))}</{tag}>"
            for number, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{line(header, "th")}</tr>{body}</table></div>'
