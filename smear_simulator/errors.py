"""Errors of the simulated microscope.

SimulatorError
├── UnknownDiseaseError   a disease outside ``CLASSES``
└── SettingError          a number outside its range
"""


class SimulatorError(Exception):
    """Base of everything that this package raises on purpose."""


class UnknownDiseaseError(SimulatorError, ValueError):
    """Raised when a disease is not one of ``CLASSES``."""


class SettingError(SimulatorError, ValueError):
    """Raised when a size, count or probability is outside its range."""
