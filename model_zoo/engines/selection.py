"""Which engine serves a package on this machine."""

from importlib.util import find_spec
from pathlib import Path

from model_zoo.engines.onnxruntime import OnnxRuntimeEngine
from model_zoo.engines.openvino import OpenVinoEngine
from model_zoo.engines.protocol import Engine, EngineName, Precision
from model_zoo.engines.torch import TorchEngine
from model_zoo.errors import EngineError
from model_zoo.package import ModelPackage

_ENGINES: dict[str, type[OpenVinoEngine] | type[TorchEngine] | type[OnnxRuntimeEngine]] = {
    "openvino": OpenVinoEngine,
    "torch": TorchEngine,
    "onnxruntime": OnnxRuntimeEngine,
}


def create_engine(
    package: ModelPackage,
    engine: EngineName = "auto",
    *,
    precision: Precision = "auto",
    max_batch_size: int = 8,
) -> Engine:
    """Make an engine, not yet started.

    `auto` takes torch where there is an NVIDIA device and torch is installed, else the first installed of OpenVINO,
    ONNX Runtime and torch. Nothing heavy is imported to find out.

    Raises:
        EngineError: If the engine is unknown or none is installed.
    """
    name = _choose() if engine == "auto" else engine
    if name not in _ENGINES:
        msg = f"unknown engine {name!r}: choose auto, {', '.join(_ENGINES)}"
        raise EngineError(msg)
    return _ENGINES[name](package, precision=precision, max_batch_size=max_batch_size)


def _choose() -> str:
    has_gpu = Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()
    if has_gpu and find_spec("torch") and find_spec("timm"):
        return "torch"
    for name in ("openvino", "onnxruntime", "torch"):
        if find_spec(name):
            return name
    msg = "no inference engine is installed: pip install 'hemolink[worker]' (OpenVINO)"
    raise EngineError(msg)
