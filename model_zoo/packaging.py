"""From a trained run to a model package: fp16 weights, calibration, thresholds, figures, graph, card."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from safetensors.torch import save_file
from torch import Tensor

from model_zoo.architecture import NETWORK_PREFIX, SmearNetwork
from model_zoo.calibration import fit_set_threshold, fit_temperature
from model_zoo.card import (
    CARD_FILE,
    GRAPH_FILE,
    WEIGHTS_FILE,
    Calibration,
    Card,
    Estimate,
    FeatureBlock,
    OutOfDistribution,
    TrainingData,
)
from model_zoo.checkpoint import load_checkpoint
from model_zoo.datasets.split import Split
from model_zoo.distance import FeatureDistance
from model_zoo.engines import Engine, Outputs, create_engine
from model_zoo.engines.protocol import Precision
from model_zoo.errors import TrainingError
from model_zoo.evaluation import measure
from model_zoo.export import export_graph, write_graph
from model_zoo.labels import LABELS
from model_zoo.package import ModelPackage, file_sha256
from model_zoo.predictor import calibrated
from model_zoo.preprocessing import Preprocessing
from model_zoo.store import FrameStore
from model_zoo.training import RUN_FILE

Progress = Callable[[str, int, int], None]

INTENDED_USE = (
    "Research and demonstration of decision support: a clinician reviews every answer. Not a medical device; "
    "not for diagnosis."
)


@dataclass(frozen=True)
class PackageSettings:
    """What a package needs beside its run.

    Attributes:
        name: The package's name.
        version: The package's version.
        acceptance: Share of calibration frames that must count as inside the training distribution.
        alpha: Wanted miscoverage of the prediction sets.
        reference_frames: Training frames that the distance model is fitted to, at most.
        dimensions: Principal directions of the distance model.
        precision: Of the engine that measures; best the one that will serve.
    """

    name: str
    version: str = "1.0.0"
    acceptance: float = 0.95
    alpha: float = 0.01
    reference_frames: int = 2000
    dimensions: int = 64
    precision: Precision = "auto"


def load_run(run: Path) -> tuple[SmearNetwork, Split, dict[str, Any]]:
    """Load a finished run's network (weights rounded to fp16, as they will be stored), its split and its notes.

    Raises:
        TrainingError: If the folder holds no run.
    """
    try:
        notes = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise TrainingError(f"{run} holds no training run ({RUN_FILE} is missing or damaged)") from error
    network = SmearNetwork(notes["architecture"])
    load_checkpoint(run, network, strict=False)
    halved = {
        name: value.half().float() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(halved)
    parts = (np.asarray(notes["split"][part], np.int64) for part in ("train", "calibration", "test"))
    return network.eval(), Split(*parts), notes


def build_package(
    run: Path,
    store: FrameStore,
    folder: Path,
    *,
    settings: PackageSettings,
    baseline: Estimate | None = None,
    progress: Progress | None = None,
) -> ModelPackage:
    """Write a package from a run.

    Temperature, prediction sets and the out-of-distribution threshold come from the calibration patients, the figures
    from the test patients.

    Args:
        run: The run's folder.
        store: The frames that the run was split over.
        folder: The package's folder; what lies there is replaced.
        settings: Names and thresholds.
        baseline: Macro accuracy of the baseline on the same split.
        progress: Called with a stage, images done and total.

    Raises:
        TrainingError: If the run has no checkpoint.
        DatasetError: If the split divides a patient group.
    """
    network, split, notes = load_run(run)
    split.check(store.groups)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    exported = export_graph(network)
    _write_files(network, exported, partial)
    card = _card(store, split, notes, network=network, settings=settings)
    engine = create_engine(ModelPackage(partial, card), precision=settings.precision)
    engine.start()
    try:

        def answers(name: str, indices: NDArray[np.int64]) -> Outputs:
            return _run(engine, store, indices, _stage_progress(progress, name, len(indices)))

        spread = np.linspace(0, len(split.train) - 1, min(settings.reference_frames, len(split.train)))
        reference = answers("reference", split.train[spread.astype(int)])
        calibration = answers("calibration", split.calibration)
        test = answers("test", split.test)
    finally:
        engine.stop()
    labels = store.labels[split.calibration]
    distance = FeatureDistance.fit(
        reference.features,
        calibration.features,
        bounds=network.feature_bounds,
        dimensions=settings.dimensions,
    )
    temperature = fit_temperature(calibration.logits, labels)
    probabilities = calibrated(calibration.logits, temperature)
    scores = distance.score(calibration.features)
    _write_files(network, exported, partial, distance)
    card = card.model_copy(
        update={
            "calibration": Calibration(
                temperature=temperature,
                set_threshold=fit_set_threshold(probabilities, labels, alpha=settings.alpha),
                set_alpha=settings.alpha,
                frames=len(labels),
                patients=len(np.unique(store.groups[split.calibration])),
            ),
            "out_of_distribution": OutOfDistribution(
                threshold=float(np.quantile(scores, settings.acceptance, method="higher")),
                acceptance=settings.acceptance,
                blocks=distance.blocks,
            ),
            "files": {name: file_sha256(partial / name) for name in (WEIGHTS_FILE, GRAPH_FILE)},
        }
    )
    metrics = measure(
        test,
        store.labels[split.test],
        store.groups[split.test],
        card=card,
        distance=distance,
        engine=engine.name,
        simulated=store.simulated,
        baseline=baseline,
    )
    write_card(card.model_copy(update={"metrics": metrics}), partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return ModelPackage.load(folder)


def _stage_progress(progress: Progress | None, stage: str, total: int) -> Callable[[int], None]:
    """A callback that takes images done, for one stage of a longer progress."""

    def report(done: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    return report


def _run(
    engine: Engine, store: FrameStore, indices: NDArray[np.int64], report: Callable[[int], None]
) -> Outputs:
    """Answers as they will be served: thresholds made at one precision do not quite hold at another."""
    preprocessing = Preprocessing()
    found: list[Outputs] = []
    for first in range(0, len(indices), 8):
        chosen = indices[first : first + 8].tolist()
        found.append(engine.run(np.stack([preprocessing.prepare(store.pixels[index]) for index in chosen])))
        report(first + len(chosen))
    return Outputs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _card(
    store: FrameStore,
    split: Split,
    notes: dict[str, Any],
    *,
    network: SmearNetwork,
    settings: PackageSettings,
) -> Card:
    """A card with everything but figures and thresholds."""
    sources = tuple(sorted({store.frames[index].source for index in split.train.tolist()}))
    placeholder = FeatureBlock(name="none", start=0, stop=1, residual_scale=1, limit=1)
    return Card(
        schema_version="1",
        name=settings.name,
        version=settings.version,
        architecture=network.architecture,
        labels=LABELS,
        preprocessing=Preprocessing(),
        calibration=Calibration(
            temperature=1, set_threshold=0, set_alpha=settings.alpha, frames=0, patients=0
        ),
        out_of_distribution=OutOfDistribution(
            threshold=1, acceptance=settings.acceptance, blocks=(placeholder,)
        ),
        training_data=TrainingData(
            statement=_statement(store, sources),
            sources=sources,
            patients=len(np.unique(store.groups[split.train])),
            frames=len(split.train),
            seed=int(notes["seed"]),
            initial_weights=str(notes["initial_weights"]),
        ),
        simulated=store.simulated,
        intended_use=INTENDED_USE,
        licence="Apache-2.0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
    )


def _write_files(
    network: SmearNetwork, exported: ModelProto, folder: Path, distance: FeatureDistance | None = None
) -> None:
    tensors: dict[str, Tensor] = {
        NETWORK_PREFIX + name: value.half().contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if distance is not None:
        tensors |= {name: torch.from_numpy(array) for name, array in distance.tensors().items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)
    write_graph(exported, folder / GRAPH_FILE, weights=folder / WEIGHTS_FILE)


def write_card(card: Card, folder: Path) -> None:
    """Write card.json."""
    text = json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def _statement(store: FrameStore, sources: tuple[str, ...]) -> str:
    if store.simulated:
        return "Trained on SIMULATED smears only, never on a real one: for demonstration, not for diagnosis."
    return f"Trained on frames of {', '.join(sources)}; not validated elsewhere: for research, not for diagnosis."
