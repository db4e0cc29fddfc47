"""From a trained run to a model package: fp16 weights, calibration, thresholds, figures, graph, card."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
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
    OutOfDistribution,
    TrainingData,
)
from model_zoo.checkpoint import load_checkpoint
from model_zoo.distance import FeatureDistance
from model_zoo.engines import Outputs
from model_zoo.errors import TrainingError
from model_zoo.evaluation import measure
from model_zoo.export import write_graph
from model_zoo.labels import LABELS
from model_zoo.package import ModelPackage, file_sha256
from model_zoo.predictor import calibrated
from model_zoo.preprocessing import Preprocessing
from model_zoo.split import Split
from model_zoo.store import FrameStore
from model_zoo.training import RUN_FILE, network_outputs

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
    """

    name: str
    version: str = "1.0.0"
    acceptance: float = 0.95
    alpha: float = 0.02
    reference_frames: int = 3000
    dimensions: int = 64


def load_run(run: Path) -> tuple[SmearNetwork, Split, dict[str, object]]:
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
    progress: Callable[[str, int, int], None] | None = None,
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

    def answers(name: str, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(name, done, len(indices))

        return network_outputs(network, store, indices, progress=count)

    spread = np.linspace(0, len(split.train) - 1, min(settings.reference_frames, len(split.train))).astype(
        int
    )
    _, reference = answers("reference", split.train[spread])
    logits, features = answers("calibration", split.calibration)
    labels = store.labels[split.calibration]
    distance = FeatureDistance.fit(reference, dimensions=settings.dimensions)
    temperature = fit_temperature(logits, labels)
    threshold = fit_set_threshold(calibrated(logits, temperature), labels, alpha=settings.alpha)
    limit = float(np.quantile(distance.score(features), settings.acceptance, method="higher"))
    sources = tuple(sorted({store.frames[index].source for index in split.train.tolist()}))

    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_weights(network, distance, partial / WEIGHTS_FILE)
    write_graph(network, partial / GRAPH_FILE, weights=partial / WEIGHTS_FILE)
    seed = notes["seed"]
    card = Card(
        schema_version="1",
        name=settings.name,
        version=settings.version,
        architecture=network.architecture,
        labels=LABELS,
        preprocessing=Preprocessing(),
        calibration=Calibration(
            temperature=temperature,
            set_threshold=threshold,
            set_alpha=settings.alpha,
            frames=len(labels),
            patients=len(np.unique(store.groups[split.calibration])),
        ),
        out_of_distribution=OutOfDistribution(
            threshold=limit, acceptance=settings.acceptance, residual_scale=distance.residual_scale
        ),
        training_data=TrainingData(
            statement=_statement(store, sources),
            sources=sources,
            patients=len(np.unique(store.groups[split.train])),
            frames=len(split.train),
            seed=seed if isinstance(seed, int) else 0,
            initial_weights=str(notes["initial_weights"]),
        ),
        simulated=store.simulated,
        intended_use=INTENDED_USE,
        licence="Apache-2.0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={name: file_sha256(partial / name) for name in (WEIGHTS_FILE, GRAPH_FILE)},
    )
    test_logits, test_features = answers("test", split.test)
    metrics = measure(
        Outputs(test_logits, test_features, np.zeros((0,), np.float32)),
        store.labels[split.test],
        store.groups[split.test],
        card=card,
        distance=distance,
        simulated=store.simulated,
        baseline=baseline,
    )
    write_card(card.model_copy(update={"metrics": metrics}), partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return ModelPackage.load(folder)


def write_card(card: Card, folder: Path) -> None:
    """Write card.json."""
    text = json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def _statement(store: FrameStore, sources: tuple[str, ...]) -> str:
    if store.simulated:
        return "Trained on SIMULATED smears only, never on a real one: for demonstration, not for diagnosis."
    return f"Trained on frames of {', '.join(sources)}; not validated elsewhere: for research, not for diagnosis."


def _write_weights(network: SmearNetwork, distance: FeatureDistance, path: Path) -> None:
    tensors: dict[str, Tensor] = {
        NETWORK_PREFIX + name: value.half().contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    tensors["ood.mean"] = torch.from_numpy(distance.mean)
    tensors["ood.scale"] = torch.from_numpy(distance.scale)
    tensors["ood.components"] = torch.from_numpy(np.ascontiguousarray(distance.components))
    save_file(tensors, path)
