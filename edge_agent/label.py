"""Reads a slide's label: a QR code ``HL1:CODE`` or ``HL1:CODE:STAT`` starts that case.

The code is an opaque accession code. Any other QR code is not ours and is left alone.
"""

import re
from dataclasses import dataclass
from typing import Any

from broker_config.topics import Priority
from edge_agent.cameras.base import Image

_TEXT = re.compile(r"HL1:(?P<code>[A-Za-z0-9][A-Za-z0-9._-]{0,39})(?P<stat>:STAT)?")
_LONG_SIDE = 800
_DARK, _LIGHT = 0.45, 0.75
_MIN_SHARE = 0.03


@dataclass(frozen=True)
class SlideLabel:
    """What a label says.

    Attributes:
        case: The accession code.
        priority: ``stat`` when the label says so.
    """

    case: str
    priority: Priority = "routine"


def parse_label(text: str) -> SlideLabel | None:
    """Return what a QR code's text means, or None when it is no slide label of Hemolink's."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return None
    return SlideLabel(match["code"], "stat" if match["stat"] else "routine")


class LabelReader:
    """Finds a slide label in a picture. One thread uses it."""

    def __init__(self) -> None:
        self._detector: Any = None

    def read(self, image: Image) -> SlideLabel | None:
        """Return the label in an image, or None; most smears are dismissed by their colours alone.

        Args:
            image: Height x width x 3, uint8, BGR.
        """
        import cv2  # noqa: PLC0415 - loaded on first use
        import numpy as np  # noqa: PLC0415

        scale = _LONG_SIDE / max(image.shape[:2])
        if scale < 1:
            image = np.asarray(
                cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
        little = image[::4, ::4]  # sampled and not averaged, so that a code stays black and white
        darkest_channel, lightest_channel = little.min(axis=2), little.max(axis=2)
        top = max(float(np.percentile(darkest_channel, 99)), 1.0)
        # Ink is dark in every channel; a stained nucleus is not dark in all of them.
        inked = float((lightest_channel < _DARK * top).mean())
        blank = float((darkest_channel > _LIGHT * top).mean())
        if inked < _MIN_SHARE or blank < _MIN_SHARE:
            return None
        if self._detector is None:
            self._detector = cv2.QRCodeDetector()
        try:
            text, _, _ = self._detector.detectAndDecode(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        except (cv2.error, UnicodeDecodeError):
            return None  # a detector that stumbles over a picture has found no label in it
        return parse_label(text) if text else None
