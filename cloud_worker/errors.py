"""Errors of the worker.

::

    WorkerError
    |-- FrameRejected    a frame that no worker could diagnose; becomes a dead letter
    |-- ModelUnusable    the model package or the engine of the settings cannot be used
    `-- EngineLost       the engine fails on an input that is known to be good; the process must end

Codes of `FrameRejected` are stable; they stand in dead letters, receipts and counters. Those of a payload that cannot
be read come from `broker_config.codec`: ``too_large``, ``not_cbor``, ``not_a_map``, ``unknown_version``,
``invalid_field``. The worker's own are in `CODES`.
"""

from collections.abc import Mapping
from types import MappingProxyType

CODES: Mapping[str, str] = MappingProxyType(
    {
        "wrong_topic": "the topic is not a frame topic of Hemolink",
        "topic_mismatch": "site, device or priority of the frame differ from its topic",
        "wrong_hash": "the image's SHA-256 differs from the one the frame states",
        "not_an_image": "the bytes are no JPEG, PNG or WebP image",
        "wrong_encoding": "the image has another format than the frame states",
        "bad_header": "the image's header cannot be read",
        "wrong_size": "the image has another width or height than the frame states",
        "image_too_large": "the image would decode to too many pixels",
        "corrupt_image": "the image is cut short or damaged",
        "inference_failed": "the model failed on this frame three times",
        "invalid_prediction": "the model's answer is not a diagnosis",
        "worker_fault": "a fault of the worker itself",
        "kills_worker": "the worker died three times with this frame alone at work",
        "hangs_engine": "the worker hung three times with this frame alone at work",
    }
)
"""The worker's own codes, with what each means."""


EXIT_FINE = 0
"""Asked to stop, and stopped in order."""
EXIT_FAULT = 1
"""The engine is lost, or the broker cannot be used: start it again."""
EXIT_SETTINGS = 2
"""Settings, model or directory cannot be used: a person must see to it."""
EXIT_HUNG = 3
"""An inference or a decoding took longer than inference_deadline_s: start it again. A second signal while draining gives 130."""


class WorkerError(Exception):
    """Base of every error of the worker."""


class FrameRejected(WorkerError):
    """Raised when a frame cannot be diagnosed, however often it is tried.

    Attributes:
        code: Stable reason, for counters and dead letters.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class ModelUnusable(WorkerError):
    """Raised when the model package or the engine that the settings name cannot be used."""


class EngineLost(WorkerError):
    """Raised when the engine fails even on an input that is known to be good."""
