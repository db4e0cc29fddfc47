"""The quality gate: is this field of view worth a diagnosis, and if not, why not.

Everything is measured on the grey image at full resolution; sizes are in pixels. The scales:

* focus: strength of detail between 1.5 and 3 pixels relative to the contrast of the whole, after S. Pertuz et al.,
  "Analysis of focus measure operators for shape-from-focus", Pattern Recognition 46 (2013), whose band-pass family it
  belongs to. Dividing by the contrast makes it independent of stain strength and of how many cells are in view.
* foreground: share of pixels darker than the local background by more than a twentieth.
* likeness: correlation with the previous accepted field, both reduced to 80 x 60 and freed of
  illumination, the best of small shifts, because a stage that stands still drifts.
"""

from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from broker_config.messages import Quality
from broker_config.settings import Section
from edge_agent.cameras.base import Image

_FINE_PX, _COARSE_PX = 1.5, 3.0
_REDUCED = (160, 120)
_LIKENESS_SIZE = (80, 60)
_BACKGROUND_REACH = 31  # of the reduced image: wider than any cell
_FOREGROUND_DEPTH = 0.05
_DRIFT = 3  # of the reduced field: an eightieth of its width each
_FEATURELESS = 0.5  # grey levels
_DARK_END, _BRIGHT_END = 4, 251


class QualitySettings(Section):
    """Thresholds of the quality gate."""

    enabled: bool = Field(default=True, description="false: everything passes, and the measures still travel")
    min_focus: float = Field(0.022, ge=0, le=1, description="less is out of focus")
    soft_focus: float = Field(0.030, ge=0, le=1, description="less passes with the flag soft_focus")
    min_foreground: float = Field(0.08, ge=0, le=1, description="less is a blank field")
    min_brightness: float = Field(0.15, ge=0, le=1, description="less is under-exposed")
    max_brightness: float = Field(0.97, ge=0, le=1, description="more is over-exposed")
    max_saturated: float = Field(
        0.60, ge=0, le=1, description="more pixels at an end of the range are refused"
    )
    max_likeness: float = Field(
        0.90, ge=0, le=1, description="more is the previous field over again; 1 switches this check off"
    )
    min_side_px: int = Field(64, ge=1, le=65535, description="smaller pictures are refused")


@dataclass(frozen=True)
class Fault:
    """Why a field is refused.

    Attributes:
        code: Stable, for counters.
        sentence: For a person: the measure, the limit and the remedy.
    """

    code: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """What the gate found.

    Attributes:
        quality: The measures, as they travel with the frame.
        faults: Why the field is refused; empty when it passes.
    """

    quality: Quality
    faults: tuple[Fault, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether the field passes."""
        return not self.faults


@dataclass
class QualityGate:
    """Judges one field after another.

    Attributes:
        settings: The thresholds; may be replaced between two fields.
    """

    settings: QualitySettings
    _previous: Any = field(default=None, repr=False)

    def forget(self) -> None:
        """Forget the previous field: on another slide nothing is a repetition."""
        self._previous = None

    def judge(self, image: Image) -> Verdict:
        """Measure an image and say whether it passes.

        Args:
            image: Height x width x 3, uint8, BGR.
        """
        height, width = image.shape[:2]
        limits = self.settings
        if min(height, width) < limits.min_side_px:
            fault = Fault(
                "too_small",
                f"the picture is {width} x {height} pixels, a side must have at least {limits.min_side_px}: "
                "use the camera's full resolution",
            )
            return Verdict(Quality(focus_threshold=limits.min_focus), (fault,) if limits.enabled else ())
        measured = _measure(image)
        likeness = _likeness(measured.likeness, self._previous)
        faults = self._faults(measured, likeness)
        quality = Quality(
            focus=round(measured.focus, 5),
            focus_threshold=limits.min_focus,
            brightness=round(measured.brightness, 5),
            saturated=round(measured.saturated, 5),
            foreground=round(measured.foreground, 5),
            flags=self._flags(measured, faults),
        )
        if not limits.enabled:
            faults = ()
        if not faults:
            self._previous = measured.likeness
        return Verdict(quality, faults)

    def _faults(self, measured: "_Measures", likeness: float) -> tuple[Fault, ...]:
        limits = self.settings
        found = []
        if measured.brightness < limits.min_brightness:
            found.append(
                Fault(
                    "too_dark",
                    f"mean brightness {measured.brightness:.2f} is below {limits.min_brightness:.2f}: "
                    "raise the lamp or the exposure",
                )
            )
        if measured.brightness > limits.max_brightness:
            found.append(
                Fault(
                    "too_bright",
                    f"mean brightness {measured.brightness:.2f} is above {limits.max_brightness:.2f}: "
                    "lower the lamp or the exposure",
                )
            )
        if measured.saturated > limits.max_saturated:
            found.append(
                Fault(
                    "saturated",
                    f"{measured.saturated:.0%} of the pixels are at an end of the range (limit "
                    f"{limits.max_saturated:.0%}): correct the exposure",
                )
            )
        if measured.foreground < limits.min_foreground:
            found.append(
                Fault(
                    "blank",
                    f"only {measured.foreground:.1%} of the field is covered (limit {limits.min_foreground:.1%}): "
                    "move to a part of the smear with cells",
                )
            )
        elif measured.focus < limits.min_focus:
            found.append(
                Fault(
                    "out_of_focus",
                    f"focus {measured.focus:.3f} is below {limits.min_focus:.3f}: focus the microscope",
                )
            )
        if likeness > limits.max_likeness:
            found.append(
                Fault(
                    "near_duplicate",
                    f"it is the previous field over again (likeness {likeness:.3f}, limit {limits.max_likeness:.3f}): "
                    "move the stage",
                )
            )
        return tuple(found)

    def _flags(self, measured: "_Measures", faults: tuple[Fault, ...]) -> tuple[str, ...]:
        flags = [fault.code for fault in faults] if not self.settings.enabled else []
        if self.settings.min_focus <= measured.focus < self.settings.soft_focus:
            flags.append("soft_focus")
        return tuple(flags)


@dataclass(frozen=True)
class _Measures:
    focus: float
    brightness: float
    saturated: float
    foreground: float
    likeness: Any


def _measure(image: Image) -> _Measures:
    import cv2  # noqa: PLC0415 - loaded on first use
    import numpy as np  # noqa: PLC0415

    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    counts = np.bincount(grey.ravel(), minlength=256)
    ends = int(counts[: _DARK_END + 1].sum() + counts[_BRIGHT_END:].sum())
    coarse = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _COARSE_PX)
    fine = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _FINE_PX)
    contrast = float(fine.std())
    focus = float((fine - coarse).std()) / contrast if contrast > 0 else 0.0

    reduced = cv2.resize(grey, _REDUCED, interpolation=cv2.INTER_AREA)
    kernel = np.ones((_BACKGROUND_REACH, _BACKGROUND_REACH), np.uint8)
    background = cv2.blur(cv2.morphologyEx(reduced, cv2.MORPH_CLOSE, kernel), (5, 5))
    covered = reduced < background.astype(np.float32) * (1 - _FOREGROUND_DEPTH)

    little = cv2.resize(grey, _LIKENESS_SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    little -= cv2.GaussianBlur(little, (0, 0), _LIKENESS_SIZE[0] / 8)
    return _Measures(
        focus=focus,
        brightness=float(grey.mean()) / 255,
        saturated=ends / grey.size,
        foreground=float(covered.mean()),
        likeness=little,
    )


def _likeness(this: Any, previous: Any) -> float:
    """Return the best correlation of two reduced fields over small shifts, 0 when there is no previous one."""
    if previous is None or this.shape != previous.shape:
        return 0.0
    import cv2  # noqa: PLC0415 - loaded on first use

    inner = previous[_DRIFT:-_DRIFT, _DRIFT:-_DRIFT]
    if float(inner.std()) < _FEATURELESS or float(this.std()) < _FEATURELESS:
        return 0.0
    best = float(cv2.matchTemplate(this, inner, cv2.TM_CCOEFF_NORMED).max())
    return min(max(best, 0.0), 1.0)
