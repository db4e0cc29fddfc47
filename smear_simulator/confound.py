"""A planted fault: data in which something other than morphology gives the class away."""

from dataclasses import dataclass, replace

from smear_simulator.kind import CLASSES
from smear_simulator.patient import Patient


@dataclass(frozen=True, slots=True)
class Confound:
    """What to plant. Nothing is planted by default; an audit is right if it finds what is.

    Attributes:
        background_tint_by_class: Give each class's slides a tint of their own, as if each disease came from
            another laboratory.
    """

    background_tint_by_class: bool = False

    def plant(self, patient: Patient) -> Patient:
        """Return the patient with the confound on their slide."""
        if not self.background_tint_by_class:
            return patient
        step = 8.0 * (CLASSES.index(patient.disease) - 2)
        blue, green, red = patient.stain.background
        background = (max(blue - 20 + step, 120.0), green, min(red - 16 - step, 255.0))
        return replace(patient, stain=replace(patient.stain, background=background))
