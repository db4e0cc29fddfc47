"""PyTorch: the default on a CUDA device, in half precision with channels last."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.engines.protocol import Outputs, Precision
from model_zoo.errors import EngineError
from model_zoo.package import ModelPackage


class TorchEngine:
    """Builds the network from its architecture's name and loads the package's weights into it."""

    def __init__(
        self, package: ModelPackage, *, precision: Precision = "auto", max_batch_size: int = 8
    ) -> None:
        """Store what `start` will need.

        Args:
            package: A verified package.
            precision: `fp32`, `bf16`, `fp16` (CUDA only), or `auto`: bf16 (fp16 on older devices) on CUDA, fp32 on a CPU.
            max_batch_size: Largest batch that `run` will be given.
        """
        self._package = package
        self._precision = precision
        self._max_batch_size = max_batch_size
        self._network: Any = None
        self._device = "cpu"

    @property
    def name(self) -> str:
        """Engine, device and precision."""
        return f"torch-{self._precision}" if self._device == "cpu" else f"torch-cuda-{self._precision}"

    def start(self) -> None:
        """Build, load, move to the device and warm up.

        Raises:
            EngineError: If torch or timm is not installed, or fp16 is asked for on a CPU.
        """
        try:
            import torch  # noqa: PLC0415 - seconds to import, and absent from most workers

            from model_zoo.architecture import load_network  # noqa: PLC0415
        except ImportError as error:
            msg = f"the torch engine needs torch and timm ({error}): pip install 'hemolink[worker-gpu]'"
            raise EngineError(msg) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        if self._precision == "auto":
            half = "bf16" if self._device == "cuda" and torch.cuda.is_bf16_supported() else "fp16"
            self._precision = half if self._device == "cuda" else "fp32"  # type: ignore[assignment]
        if self._precision == "fp16" and self._device == "cpu":
            msg = "torch on a CPU runs fp32 or bf16, not fp16: choose another precision"
            raise EngineError(msg)
        network = load_network(self._package)
        network = network.to(self._device, memory_format=torch.channels_last)
        self._network = network.eval()
        size = self._package.card.preprocessing
        self.run(np.zeros((self._max_batch_size, 3, size.height, size.width), np.float32))

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """Infer one batch."""
        if self._network is None:
            msg = "the torch engine has not been started: call start() first"
            raise EngineError(msg)
        import torch  # noqa: PLC0415

        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self._precision]
        backward = self._package.card.activation == "gradient, torch only"
        with (
            torch.inference_mode(mode=not backward),  # its tensors could not be differentiated
            torch.no_grad(),
            torch.autocast(self._device, dtype=dtype, enabled=dtype != torch.float32),
        ):
            images = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
            images = images.contiguous(memory_format=torch.channels_last)
            answers = self._network(images)
            if backward:
                from model_zoo.gradient import gradient_maps  # noqa: PLC0415

                answers = (*answers[:2], gradient_maps(self._network, images))
        return Outputs(*(answer.float().cpu().numpy() for answer in answers))

    def stop(self) -> None:
        """Release the network."""
        self._network = None
