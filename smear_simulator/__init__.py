"""A simulated microscope: seeded smears of simulated patients, with the truth about every pixel.

Imports numpy and OpenCV, and nothing of Hemolink. Everything that comes from here is SIMULATED.
"""

from smear_simulator.confound import Confound
from smear_simulator.contact_sheet import contact_sheet
from smear_simulator.dataset import write_dataset
from smear_simulator.errors import SettingError, SimulatorError, UnknownDiseaseError
from smear_simulator.field import Cell, Field, Truth
from smear_simulator.kind import CLASSES
from smear_simulator.microscope import Microscope
from smear_simulator.optics import Faults
from smear_simulator.patient import Patient, Stain, population

__all__ = [
    "CLASSES",
    "Cell",
    "Confound",
    "Faults",
    "Field",
    "Microscope",
    "Patient",
    "SettingError",
    "SimulatorError",
    "Stain",
    "Truth",
    "UnknownDiseaseError",
    "contact_sheet",
    "population",
    "write_dataset",
]
