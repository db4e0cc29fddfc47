"""Simulated patients under a simulated microscope. Everything that comes from here is SIMULATED."""

import hashlib
from typing import TYPE_CHECKING, ClassVar

from edge_agent.cameras.base import CameraContext, RawFrame
from edge_agent.cameras.settings import SimulatedSettings
from edge_agent.errors import CameraEnded, CameraError

if TYPE_CHECKING:
    from smear_simulator import Microscope, Patient


class SimulatedCamera:
    """A simulated microscope; see `edge_agent.cameras.base.Camera`. Each patient is a case of its own.

    The fields are numbered from 0 through all patients, and each has a token like a file of a folder. So after a restart,
    however the last run ended, the microscope goes on with the first field that was not dealt with.
    """

    Settings: ClassVar = SimulatedSettings
    live: ClassVar[bool] = False
    simulated: ClassVar[bool] = True

    def __init__(self, settings: SimulatedSettings, context: CameraContext) -> None:
        self._settings = settings
        self._seen = context.seen
        identity = settings.model_dump_json(exclude={"repeat"})
        self._identity = hashlib.sha256(identity.encode()).hexdigest()
        self._next: int | None = None
        self._microscope: Microscope | None = None
        self._shown = -1
        self._round = -1
        self._patients: list[Patient] = []

    @property
    def description(self) -> str:
        """How many patients, and that they are simulated."""
        return f"simulated microscope ({self._settings.patients} patients, SIMULATED)"

    def open(self) -> None:
        """Find the field to go on with."""
        if self._next is None:
            self._next = self._first_unseen()

    def capture(self, *, timeout_s: float) -> RawFrame | None:  # noqa: ARG002 - rendering never waits
        """Return the next field of view; see `Camera`."""
        if self._next is None:
            raise CameraError("the simulated microscope is not open")
        while not self._is_over(self._next) and self._seen(self._token(self._next)):
            self._next += 1
        number = self._next
        if self._is_over(number):
            raise CameraEnded("every simulated patient has been seen")
        microscope = self._show(number)
        field = microscope.capture()
        self._next = number + 1
        return RawFrame(
            field.image,
            pixel_size_um=field.pixel_size_um,
            exposure_ms=field.exposure_ms,
            focus_um=field.focus_um,
            stage_x_um=field.stage_x_um,
            stage_y_um=field.stage_y_um,
            simulated=True,
            case=field.patient_id,
            source=self._token(number),
            name=f"field {number % self._settings.frames_per_case} of {field.patient_id}",
        )

    def close(self) -> None:
        """Nothing to release."""

    def _is_over(self, number: int) -> bool:
        chosen = self._settings
        return not chosen.repeat and number >= chosen.patients * chosen.frames_per_case

    def _token(self, number: int) -> str:
        return hashlib.sha256(f"{self._identity}|{number}".encode()).hexdigest()

    def _first_unseen(self) -> int:
        """Return the first field that was not dealt with; they are dealt with in order, so halving finds it."""
        beyond = 1
        while self._seen(self._token(beyond - 1)):
            beyond *= 2
        low, high = beyond // 2, beyond - 1  # low fields are seen for certain; field high is not
        while low < high:
            middle = (low + high) // 2
            if self._seen(self._token(middle)):
                low = middle + 1
            else:
                high = middle
        return low

    def _show(self, number: int) -> "Microscope":
        """Bring a field under the objective, with everything as if all before it had been taken in this run."""
        from smear_simulator import Faults, Microscope, population  # noqa: PLC0415 - only this camera needs it

        chosen = self._settings
        round_, rest = divmod(number, chosen.patients * chosen.frames_per_case)
        index, field = divmod(rest, chosen.frames_per_case)
        if round_ != self._round:
            self._round = round_
            self._patients = population(chosen.patients, seed=chosen.seed + round_)
        if self._microscope is not None and number == self._shown + 1:
            if field:
                self._microscope.next_field()
            else:
                self._microscope.change_slide(self._patients[index])
        else:
            self._microscope = Microscope(
                self._patients[index],
                width=chosen.width,
                height=chosen.height,
                pixel_size_um=chosen.pixel_size_um,
                seed=chosen.seed,
                faults=Faults(blank=chosen.blank, out_of_focus=chosen.out_of_focus),
                captures=number,
            )
            for _ in range(field):
                self._microscope.next_field()
        self._shown = number
        return self._microscope
