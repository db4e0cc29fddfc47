"""OpenVINO on a CPU: the default where there is no CUDA device, in bf16 where the CPU computes in it."""

import contextlib
from collections import deque
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
        self._requests: list[Any] = []

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
        streams = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._requests = [self._compiled.create_infer_request() for _ in range(streams)]
        self.run(np.zeros((min(2, self._max_batch_size), 3, size.height, size.width), np.float32))

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """Infer each input as one request, as many at once as the CPU has streams; that outruns a batched request.

        The requests have no Python callback: OpenVINO's own queue of requests with callbacks waited for ever, now and
        then, when it was released.
        """
        if not self._requests:
            msg = "the OpenVINO engine has not been started: call start() first"
            raise EngineError(msg)
        rows: list[tuple[NDArray[np.float32], ...]] = []
        busy: deque[Any] = deque()
        try:
            for index in range(len(batch)):
                if len(busy) == len(self._requests):
                    rows.append(_finished(busy.popleft()))
                request = self._requests[index % len(self._requests)]
                request.start_async({0: batch[index : index + 1]})
                busy.append(request)
            while busy:
                rows.append(_finished(busy.popleft()))
        except RuntimeError as error:
            for request in busy:  # a request may not be started again while it runs
                with contextlib.suppress(RuntimeError):
                    request.wait()
            msg = f"OpenVINO failed during inference: {error}"
            raise EngineError(msg) from error
        return Outputs(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def stop(self) -> None:
        """Release the compiled network."""
        self._requests = []
        self._compiled = None


def _finished(request: Any) -> tuple[NDArray[np.float32], ...]:
    """Wait for a request and copy its three outputs."""
    request.wait()
    return tuple(np.array(request.get_output_tensor(number).data, np.float32) for number in range(3))
