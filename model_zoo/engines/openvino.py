"""OpenVINO on a CPU: the default where there is no CUDA device, in bf16 where the CPU computes in it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.engines.protocol import Outputs, Precision
from model_zoo.errors import EngineError
from model_zoo.package import ModelPackage


class OpenVinoEngine:
    """Runs a package's ONNX graph with OpenVINO's CPU plug-in."""

    def __init__(
        self, package: ModelPackage, *, precision: Precision = "auto", max_batch_size: int = 8
    ) -> None:
        """Store what `start` will need.

        Args:
            package: A verified package.
            precision: `fp32`, `bf16`, or `auto`: bf16 where the CPU has instructions for it.
            max_batch_size: Largest batch that `run` will be given.

        Raises:
            EngineError: If the precision is fp16, which the CPU plug-in does not offer.
        """
        if precision == "fp16":
            msg = "OpenVINO on a CPU runs fp32 or bf16, not fp16: choose another precision, or the torch engine on CUDA"
            raise EngineError(msg)
        self._package = package
        self._precision = precision
        self._max_batch_size = max_batch_size
        self._compiled: Any = None
        self._queue: Any = None
        self._answers: list[tuple[NDArray[np.float32], ...] | None] = []

    @property
    def name(self) -> str:
        """Engine and precision."""
        return f"openvino-{self._precision}"

    def start(self) -> None:
        """Compile the graph for this CPU and warm it up.

        Raises:
            EngineError: If OpenVINO is not installed or refuses the graph.
        """
        try:
            import openvino as ov  # noqa: PLC0415 - only where this engine is used
        except ImportError as error:
            msg = "OpenVINO is not installed: pip install 'hemolink[worker]', or choose another engine"
            raise EngineError(msg) from error
        core = ov.Core()
        if self._precision == "auto":
            offered = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            self._precision = "bf16" if "BF16" in offered else "fp32"
        hint = {"fp32": "f32", "bf16": "bf16"}[self._precision]
        size = self._package.card.preprocessing
        try:
            model = core.read_model(self._package.graph_path)
            model.reshape([1, 3, size.height, size.width])
            self._compiled = core.compile_model(
                model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "THROUGHPUT"}
            )
        except RuntimeError as error:
            msg = f"OpenVINO cannot load {self._package.graph_path}: {error}"
            raise EngineError(msg) from error
        self._queue = ov.AsyncInferQueue(self._compiled)
        self._queue.set_callback(self._keep)
        self.run(np.zeros((min(2, self._max_batch_size), 3, size.height, size.width), np.float32))

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """Infer each input as one request of a queue over all cores, which outruns batched inference on a CPU."""
        if self._queue is None:
            msg = "the OpenVINO engine has not been started: call start() first"
            raise EngineError(msg)
        self._answers = [None] * len(batch)
        try:
            for index in range(len(batch)):
                self._queue.start_async({0: batch[index : index + 1]}, index)
            self._queue.wait_all()
        except RuntimeError as error:
            msg = f"OpenVINO failed during inference: {error}"
            raise EngineError(msg) from error
        rows = [answer for answer in self._answers if answer is not None]
        if len(rows) != len(batch):
            msg = f"OpenVINO answered {len(rows)} of {len(batch)} inputs"
            raise EngineError(msg)
        return Outputs(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def stop(self) -> None:
        """Release the compiled network."""
        self._queue = None
        self._compiled = None

    def _keep(self, request: Any, index: int) -> None:
        outputs = (request.get_output_tensor(number).data for number in range(3))
        self._answers[index] = tuple(np.array(output, np.float32) for output in outputs)
