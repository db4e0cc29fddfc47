"""ONNX Runtime on a CPU, in fp32: the portable engine, and a second opinion in tests."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.engines.protocol import Outputs, Precision
from model_zoo.errors import EngineError
from model_zoo.package import ModelPackage


class OnnxRuntimeEngine:
    """Runs a package's ONNX graph with ONNX Runtime's CPU provider."""

    def __init__(
        self, package: ModelPackage, *, precision: Precision = "auto", max_batch_size: int = 8
    ) -> None:
        """Store what `start` will need.

        Raises:
            EngineError: If a precision other than fp32 is asked for.
        """
        if precision not in ("auto", "fp32"):
            msg = f"ONNX Runtime on a CPU runs fp32, not {precision}: choose fp32, or OpenVINO for bf16"
            raise EngineError(msg)
        self._package = package
        self._max_batch_size = max_batch_size
        self._session: Any = None

    @property
    def name(self) -> str:
        """Engine and precision."""
        return "onnxruntime-fp32"

    def start(self) -> None:
        """Load the graph and warm it up.

        Raises:
            EngineError: If ONNX Runtime is not installed or refuses the graph.
        """
        try:
            import onnxruntime as ort  # noqa: PLC0415 - only where this engine is used
        except ImportError as error:
            msg = "ONNX Runtime is not installed: pip install onnxruntime, or choose the openvino engine"
            raise EngineError(msg) from error
        try:
            self._session = ort.InferenceSession(
                str(self._package.graph_path), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            msg = f"ONNX Runtime cannot load {self._package.graph_path}: {error}"
            raise EngineError(msg) from error
        size = self._package.card.preprocessing
        self.run(np.zeros((1, 3, size.height, size.width), np.float32))

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """Infer one batch."""
        if self._session is None:
            msg = "the ONNX Runtime engine has not been started: call start() first"
            raise EngineError(msg)
        answers = self._session.run(["logits", "features", "activation"], {"image": batch})
        return Outputs(*(np.asarray(answer, np.float32) for answer in answers))

    def stop(self) -> None:
        """Release the session."""
        self._session = None
