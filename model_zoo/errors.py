"""What can go wrong in `model_zoo`, as one tree.

ModelZooError
├── ImageError                  a file is no image that can be read
├── PackageError                a model package cannot be used
│   ├── PackageNotFoundError    nothing by that name or at that path
│   ├── CardError               card.json is missing, malformed or of an unknown version
│   ├── IntegrityError          a file's hash differs from the card's
│   └── UnsafePackageError      the package holds a pickle, or points outside itself
├── EngineError                 an inference engine is missing, unsuited or failed
├── DatasetError                a manifest, an image of it or a split is not usable
└── TrainingError               a training run cannot start or go on
    └── PretrainedWeightsError  the hub with pre-trained weights cannot be reached
"""


class ModelZooError(Exception):
    """The base of every error that `model_zoo` raises on purpose."""


class ImageError(ModelZooError):
    """Raised when bytes are no JPEG, PNG or WebP image, are cut short, or would decode to too many pixels."""


class PackageError(ModelZooError):
    """Raised when a model package cannot be used."""


class PackageNotFoundError(PackageError):
    """Raised when no package has the given name or lies at the given path."""


class CardError(PackageError):
    """Raised when card.json is missing, is not valid, or has a schema version that this release does not know."""


class IntegrityError(PackageError):
    """Raised when a file of the package is missing or its SHA-256 differs from the card's."""


class UnsafePackageError(PackageError):
    """Raised when a package holds a pickle, or a graph that refers to a file outside the package."""


class EngineError(ModelZooError):
    """Raised when an engine is not installed, cannot run at the wanted precision, or was used before `start`."""


class DatasetError(ModelZooError):
    """Raised when a manifest or a split is malformed, or a split divides a patient group."""


class TrainingError(ModelZooError):
    """Raised when a training run cannot start or cannot be resumed."""


class PretrainedWeightsError(TrainingError):
    """Raised when pre-trained weights were wanted and the hub that holds them cannot be reached."""
