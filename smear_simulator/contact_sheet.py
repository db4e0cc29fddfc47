"""The contact sheet: one frame of several simulated patients of every class, to look at beside real smears."""

import cv2
import numpy as np
import numpy.typing as npt

from smear_simulator.kind import CLASSES
from smear_simulator.microscope import Microscope
from smear_simulator.patient import Patient

_TILE = (336, 252)  # width, height
_GAP, _LEFT, _TOP = 6, 96, 62
_INK = (60, 50, 40)


def contact_sheet(*, patients: int = 6, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return a labelled sheet (H, W, 3), BGR: classes in rows, patients in columns, every patient another.

    Args:
        patients: Columns.
        seed: Seed of the first patient.
    """
    width = _LEFT + patients * (_TILE[0] + _GAP)
    height = _TOP + len(CLASSES) * (_TILE[1] + _GAP)
    sheet = np.full((height, width, 3), 255, np.uint8)
    title = "SIMULATED smears: five classes by patient. Drawn by a program; no image here is of a person."
    _write(sheet, title, (12, 26), 0.75)
    _write(sheet, "80 x 60 micrometres a field", (12, 50), 0.5)
    for row, disease in enumerate(CLASSES):
        top = _TOP + row * (_TILE[1] + _GAP)
        _write(sheet, disease, (12, top + _TILE[1] // 2), 0.65)
        for column in range(patients):
            patient = Patient.sample(disease, seed=seed + row * patients + column)
            image = Microscope(patient, seed=seed).capture().image
            left = _LEFT + column * (_TILE[0] + _GAP)
            small = cv2.resize(image, _TILE, interpolation=cv2.INTER_AREA)
            sheet[top : top + _TILE[1], left : left + _TILE[0]] = small
    return sheet


def _write(sheet: npt.NDArray[np.uint8], text: str, at: tuple[int, int], scale: float) -> None:
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
