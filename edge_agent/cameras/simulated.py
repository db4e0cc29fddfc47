"""Simulated patients under a simulated microscope. Everything that comes from here is SIMULATED."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from edge_agent.cameras.base import CameraContext, RawFrame
from edge_agent.cameras.settings import SimulatedSettings
from edge_agent.errors import CameraEnded, CameraError

if TYPE_CHECKING:
    pass


class SimulatedCamera:
    """A simulated microscope; see `edge_agent.cameras.base.Camera`. Each patient is a case of its own."""

    Settings: ClassVar = SimulatedSettings
    live: ClassVar[bool] = False
    simulated: ClassVar[bool] = True

    def __init__(self, settings: SimulatedSettings, context: CameraContext) -> None:  # noqa: ARG002
        self._settings = settings
        self._fields: Iterator[RawFrame] | None = None

    @property
    def description(self) -> str:
        """How many patients, and that they are simulated."""
        return f"simulated microscope ({self._settings.patients} patients, SIMULATED)"

    def open(self) -> None:
        """Put the first patient's slide on the stage; after a reopening the microscope goes on where it was."""
        if self._fields is None:
            self._fields = self._take()

    def capture(self, *, timeout_s: float) -> RawFrame | None:  # noqa: ARG002 - rendering never waits
        """Return the next field of view; see `Camera`."""
        if self._fields is None:
            raise CameraError("the simulated microscope is not open")
        frame = next(self._fields, None)
        if frame is None:
            raise CameraEnded("every simulated patient has been seen")
        return frame

    def close(self) -> None:
        """Nothing to release."""

    def _take(self) -> Iterator[RawFrame]:
        from smear_simulator import Faults, Microscope, population  # noqa: PLC0415 - only this camera needs it

        chosen = self._settings
        faults = Faults(blank=chosen.blank, out_of_focus=chosen.out_of_focus)
        seed = chosen.seed
        microscope: Microscope | None = None
        while True:
            for patient in population(chosen.patients, seed=seed):
                if microscope is None:
                    microscope = Microscope(
                        patient,
                        width=chosen.width,
                        height=chosen.height,
                        pixel_size_um=chosen.pixel_size_um,
                        seed=seed,
                        faults=faults,
                    )
                else:
                    microscope.change_slide(patient)
                for number in range(chosen.frames_per_case):
                    if number:
                        microscope.next_field()
                    field = microscope.capture()
                    yield RawFrame(
                        field.image,
                        pixel_size_um=field.pixel_size_um,
                        exposure_ms=field.exposure_ms,
                        focus_um=field.focus_um,
                        stage_x_um=field.stage_x_um,
                        stage_y_um=field.stage_y_um,
                        simulated=True,
                        case=field.patient_id,
                        name=f"field {number} of {field.patient_id}",
                    )
            if not chosen.repeat:
                return
            seed += 1
