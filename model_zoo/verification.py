"""Is a package whole, safe and answering? One check a line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import WEIGHTS_FILE
from model_zoo.engines.protocol import EngineName
from model_zoo.errors import ModelZooError
from model_zoo.labels import LABELS
from model_zoo.package import ModelPackage
from model_zoo.predictor import Predictor, calibrated

TOLERANCE: Final = 1e-3
"""Largest difference in probability between two engines at fp32."""

SCORE_TOLERANCE: Final = 1e-2
"""Largest relative difference in the out-of-distribution score between two engines at fp32."""

_MODULES: Final[dict[EngineName, str]] = {
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "torch": "timm",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        passed: Whether it is as it should be.
        message: What was found, with the remedy where it failed.
    """

    name: str
    passed: bool
    message: str


def verify_package(path: Path, *, engines: Sequence[EngineName] | None = None) -> list[Check]:
    """Check a package's files, its graph's references, and that the engines agree.

    Args:
        path: The package's folder.
        engines: Engines to compare at fp32; those installed otherwise.
    """
    return list(_checks(path, engines))


def installed_engines() -> list[EngineName]:
    """The engines whose runtime is installed here."""
    return [name for name, module in _MODULES.items() if find_spec(module)]


def _checks(path: Path, engines: Sequence[EngineName] | None) -> Iterator[Check]:
    try:
        package = ModelPackage.load(path)
    except ModelZooError as error:
        yield Check("files", passed=False, message=str(error))
        return
    yield Check("files", passed=True, message=f"hashes match; weights {package.weights_sha256[:12]}")
    same = package.labels == LABELS
    yield Check("labels", passed=same, message=", ".join(package.labels))
    yield _references(package)
    yield from _answers(package, engines or installed_engines())


def _references(package: ModelPackage) -> Check:
    """External data of the graph may lie in the package's weights file and nowhere else."""
    if not find_spec("onnx"):
        return Check("graph", passed=True, message="not looked into: the onnx package is not installed")
    import onnx  # noqa: PLC0415 - a worker does without it

    try:
        graph = onnx.load(str(package.graph_path), load_external_data=False).graph
    except Exception as error:  # noqa: BLE001 - the parser's own errors share no base
        message = (
            f"{package.graph_path} is not an ONNX graph ({type(error).__name__}): package the model again"
        )
        return Check("graph", passed=False, message=message)
    places = {
        entry.value
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    count = sum(bool(tensor.external_data) for tensor in graph.initializer)
    strange = places - {WEIGHTS_FILE}
    if strange:
        return Check("graph", passed=False, message=f"refers to {', '.join(sorted(strange))}: do not use it")
    return Check("graph", passed=True, message=f"{count} initializers, all in {WEIGHTS_FILE}")


def _answers(package: ModelPackage, engines: Sequence[EngineName]) -> Iterator[Check]:
    inputs = _probe(package)
    found: dict[EngineName, NDArray[np.float64]] = {}
    scores: dict[EngineName, NDArray[np.float64]] = {}
    card = package.card
    for engine in engines:
        predictor = Predictor(package, engine=engine, precision="fp32", max_batch_size=len(inputs))
        try:
            predictor.start()
            outputs = predictor.run(inputs)
            name = predictor.engine_name
            scores[engine] = predictor.detector.score(outputs.features).astype(np.float64)
        except ModelZooError as error:
            yield Check(engine, passed=False, message=str(error))
            continue
        finally:
            predictor.stop()
        finite = all(bool(np.isfinite(array).all()) for array in outputs)
        found[engine] = calibrated(outputs.logits, card.calibration.temperature, trained=card.trained)
        yield Check(name, passed=finite, message="answers" if finite else "answers are not finite numbers")
    if len(found) > 1:
        stack = np.stack(list(found.values()))
        worst = float(np.ptp(stack, axis=0).max())
        yield Check(
            "agreement",
            passed=worst <= TOLERANCE,
            message=f"{', '.join(found)} differ by at most {worst:.1e} in probability (limit {TOLERANCE:g})",
        )
        every = np.stack([scores[engine] for engine in found])
        apart = float((np.ptp(every, axis=0) / np.maximum(every.min(axis=0), 1e-9)).max())
        yield Check(
            "guard",
            passed=apart <= SCORE_TOLERANCE,
            message=f"{_rules(package)}; out-of-distribution scores differ by at most {100 * apart:.2f} % between engines",
        )


def _rules(package: ModelPackage) -> str:
    """What the package's guard consists of, in a few words."""
    card = package.card
    blocks = ", ".join(block.name for block in card.out_of_distribution.blocks)
    acute = (
        f"acute rule at {card.acute.threshold:.4f}"
        if card.acute
        else "no acute rule (made by an earlier release)"
    )
    own = sum(value is not None for value in card.calibration.set_thresholds)
    sets = f"sets with {own} thresholds by class" if own else "sets with one threshold"
    return f"detector over {blocks}; {sets}; {acute}"


def _probe(package: ModelPackage) -> list[NDArray[np.float32]]:
    """Four fixed inputs: noise at four scales, so that no file is needed."""
    size = package.card.preprocessing
    rng = np.random.default_rng(0)
    images = []
    for cells in (4, 16, 56, 224):
        grid = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        repeats = (-(-size.height // cells), -(-size.width // cells))
        image = np.kron(grid, np.ones((*repeats, 1), np.uint8))[: size.height, : size.width]
        images.append(size.prepare(np.ascontiguousarray(image)))
    return images
