"""What the predictor needs of an inference engine."""

from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

EngineName = Literal["auto", "openvino", "torch", "onnxruntime"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Outputs(NamedTuple):
    """What a network answers for N inputs; every array is float32.

    Attributes:
        logits: (N, 5).
        features: (N, D), for the out-of-distribution score; as `Predictor.run` gives them, the optics of each input stand
            behind the network's own (`model_zoo.optics`).
        activation: (N, 5, h, w), the class activation maps.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    activation: NDArray[np.float32]


class Engine(Protocol):
    """One network, loaded by one runtime.

    The caller owns it and calls from one thread at a time; `run` blocks until the answer is there. Failures of the
    runtime surface as `EngineError`.
    """

    @property
    def name(self) -> str:
        """Engine and precision, e.g. `openvino-bf16`; final once started."""

    def start(self) -> None:
        """Import the runtime, load and compile the network, and warm it up. Takes seconds."""

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """Answer for a batch (N, 3, H, W) of float32, N from 1 to the batch size given at construction."""

    def stop(self) -> None:
        """Let go of the runtime's memory. Safe to call twice."""
