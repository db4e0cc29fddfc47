"""From a trained run to a model package: fp16 weights, calibration, thresholds, figures, graph, card."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_zoo.acute import MISS_LIMIT
from model_zoo.architecture import NETWORK_PREFIX, SmearNetwork
from model_zoo.card import (
    CARD_FILE,
    GRAPH_FILE,
    GUARD_FILE,
    SCHEMA_VERSION,
    SEEN_DIGITS,
    WEIGHTS_FILE,
    Calibration,
    Card,
    Estimate,
    Expectation,
    FeatureBlock,
    OutOfDistribution,
    TrainingData,
)
from model_zoo.checkpoint import load_checkpoint
from model_zoo.datasets.split import Split
from model_zoo.detector_fit import DIMENSIONS
from model_zoo.engines import Engine, Outputs, create_engine
from model_zoo.engines.protocol import Precision
from model_zoo.errors import TrainingError
from model_zoo.evaluation import REAL_STATEMENT, SIMULATED_STATEMENT, measure
from model_zoo.expectation import expect_inside
from model_zoo.export import export_graph, write_graph
from model_zoo.guard import Evidence, Guard, GuardSettings, fit_guard
from model_zoo.guard_check import Outsiders, check_guard, gather
from model_zoo.labels import LABELS
from model_zoo.outside import INSIDE, Strange, imitated, simulated
from model_zoo.package import ModelPackage, file_sha256
from model_zoo.preprocessing import Preprocessing
from model_zoo.store import FrameStore
from model_zoo.training import RUN_FILE
from model_zoo.tree.fitting import FinerModel, Labelled, fit_finer, measured, nodes_of

_BATCH: Final = 8
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
        acceptance: Share of frames of further groups that must count as inside the training distribution.
        alpha: Wanted miscoverage of the prediction sets.
        miss_limit: Largest wanted share of acute frames reported as not acute.
        reference_frames: Training frames that the detector is fitted to, at most.
        dimensions: Principal directions of a block of the detector.
        strange: Test frames, or simulated patients, to make frames outside of, for the card; 0 leaves these figures out.
        seed: Of these.
        precision: Of the engine that measures; best the one that will serve.
    """

    name: str
    version: str = "1.0.0"
    acceptance: float = 0.95
    alpha: float = 0.01
    miss_limit: float = MISS_LIMIT
    reference_frames: int = 3000
    dimensions: int = DIMENSIONS
    strange: int = 40
    seed: int = 977_100
    precision: Precision = "auto"

    @property
    def guard(self) -> GuardSettings:
        """What is asked of the guard."""
        return GuardSettings(self.acceptance, self.alpha, self.miss_limit, self.dimensions)


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
    further: FrameStore | None = None,
    outside: Mapping[str, Sequence[NDArray[np.uint8]]] | None = None,
    weights: Path | None = None,
    baseline: Estimate | None = None,
    expectation: Expectation | None = None,
    progress: Progress | None = None,
) -> ModelPackage:
    """Write a package from a run.

    Every threshold comes from the calibration groups, every figure from the test groups.

    Args:
        run: The run's folder.
        store: The frames that the run was split over.
        folder: The package's folder; what lies there is replaced.
        settings: Names and what is asked of the guard.
        further: More calibration frames, of groups that are in no part of the run.
        outside: By name, frames (H, W, 3) that the detector should refuse, for the card; beside those made from test frames.
        weights: A weights file to take as it is, byte by byte; its network must be the run's.
        baseline: Macro accuracy of the baseline on the same split.
        expectation: What error to expect; that on the test groups otherwise.
        progress: Called with a stage, images done and total.

    Raises:
        TrainingError: If the run has no checkpoint, there is no calibration or test frame, or the weights are another network's.
        DatasetError: If the split divides a patient group.
    """
    network, split, notes = load_run(run)
    split.check(store.groups)
    if not len(split.test):
        raise TrainingError(
            f"{run} has no test frame: a package's figures need groups that nothing was fitted to"
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_weights(network, partial, taken=weights)
    write_graph(export_graph(network), partial / GRAPH_FILE, weights=partial / WEIGHTS_FILE)
    card = _card(store, split, notes, network=network, settings=settings)
    engine = create_engine(ModelPackage(partial, card), precision=settings.precision)
    engine.start()
    try:
        answers = _Answers(engine, card.preprocessing, progress)
        spread = np.linspace(0, len(split.train) - 1, min(settings.reference_frames, len(split.train)))
        reference = answers.of("reference", store, split.train[spread.astype(int)])
        calibration = answers.of("calibration", store, split.calibration)
        if further is not None:
            calibration = calibration.joined(
                answers.of("further calibration", further, np.arange(len(further)))
            )
        test = answers.of("test", store, split.test)
        strangers = [
            *_made_outsiders(answers, store, split.test, settings),
            *(answers.outsiders(kind, images) for kind, images in (outside or {}).items()),
        ]
    finally:
        engine.stop()
    guard = fit_guard(
        reference, calibration, labels=LABELS, bounds=network.feature_bounds, settings=settings.guard
    )
    stored = {name: torch.from_numpy(array) for name, array in guard.detector.tensors().items()}
    finer = _finer(
        _subtyped(reference, store, split.train[spread.astype(int)]),
        _subtyped(calibration, store, split.calibration, further),
        _subtyped(test, store, split.test),
        width=network.feature_bounds["last"][1],
    )
    if finer is not None:
        stored |= {name: torch.from_numpy(array) for name, array in finer.tensors().items()}
    save_guard(stored, partial)
    named = (WEIGHTS_FILE, GRAPH_FILE, GUARD_FILE)
    card = with_guard(card, guard).model_copy(
        update={"files": {name: file_sha256(partial / name) for name in named}}
    )
    said = SIMULATED_STATEMENT if store.simulated else REAL_STATEMENT
    metrics = measure(
        test.outputs,
        test.labels,
        test.groups,
        card=card,
        detector=guard.detector,
        engine=engine.name,
        simulated=store.simulated,
        baseline=baseline,
    )
    checked = check_guard(test, strangers, guard, engine=engine.name, statement=said, seed=settings.seed)
    expected = expect_inside(
        guard.interpret(test.outputs),
        [LABELS[label] for label in test.labels.tolist()],
        test.groups,
        sources=test.sources,
    )
    given = expectation or Expectation()
    final = {
        "metrics": metrics,
        "guard": checked,
        "expectation": given if given.inside else given.model_copy(update={"inside": expected}),
        "finer": finer.stated if finer is not None else None,
    }
    write_card(card.model_copy(update=final), partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return ModelPackage.load(folder)


def _subtyped(
    evidence: Evidence, store: FrameStore, indices: NDArray[np.int64], further: FrameStore | None = None
) -> Labelled:
    """Features with what is known of each frame's subtype."""
    frames = [store.frames[index] for index in indices.tolist()]
    frames += further.frames if further is not None else []
    nodes = nodes_of(
        [LABELS[frame.label] if frame.label >= 0 else "" for frame in frames], [f.subtype for f in frames]
    )
    return Labelled(evidence.outputs.features, nodes, evidence.groups)


def _finer(train: Labelled, calibration: Labelled, test: Labelled, *, width: int) -> FinerModel | None:
    """The finer head, measured; None where no disease has two labelled subtypes."""
    model = fit_finer(train, calibration, width=width)
    return None if model is None else replace(model, stated=measured(model, test, width=width))


def with_guard(card: Card, guard: Guard) -> Card:
    """A card with a guard's rules."""
    return card.model_copy(
        update={
            "calibration": guard.rules.calibration,
            "out_of_distribution": guard.rules.out_of_distribution,
            "acute": guard.rules.acute,
        }
    )


class _Answers:
    """A started engine's answers, as they will be served: thresholds made at one precision do not quite hold at another."""

    def __init__(self, engine: Engine, preprocessing: Preprocessing, progress: Progress | None) -> None:
        self._engine, self._preprocessing, self._progress = engine, preprocessing, progress

    def run(self, images: Sequence[NDArray[np.uint8]]) -> Outputs:
        """Of frames, no more than a batch."""
        return self._engine.run(np.stack([self._preprocessing.prepare(image) for image in images]))

    def of(self, stage: str, store: FrameStore, indices: NDArray[np.int64]) -> Evidence:
        """Of stored frames; without activation maps, which nothing here needs."""
        found: list[Outputs] = []
        for first in range(0, len(indices), _BATCH):
            chosen = indices[first : first + _BATCH].tolist()
            found.append(_without_maps(self.run([store.pixels[index] for index in chosen])))
            if self._progress is not None:
                self._progress(stage, first + len(chosen), len(indices))
        if not found:
            raise TrainingError(
                f"there is no {stage} frame: split the frames into training, calibration and test"
            )
        return Evidence(
            Outputs(*(np.concatenate(column) for column in zip(*found, strict=True))),
            store.labels[indices],
            store.groups[indices],
            [store.frames[index].source for index in indices.tolist()],
        )

    def outsiders(self, kind: str, images: Sequence[NDArray[np.uint8]]) -> Outsiders:
        """Of frames of one kind, each a group of its own."""
        (found,) = gather((Strange(kind, image, -1, number) for number, image in enumerate(images)), self.run)
        return found


def _without_maps(outputs: Outputs) -> Outputs:
    return Outputs(outputs.logits, outputs.features, np.zeros((len(outputs.logits), 0, 0, 0), np.float32))


def _made_outsiders(
    answers: _Answers, store: FrameStore, test: NDArray[np.int64], settings: PackageSettings
) -> list[Outsiders]:
    """Blank, blurred and wrongly magnified frames: by the microscope where frames are simulated, else by changing test frames."""
    if not settings.strange:
        return []
    if store.simulated:
        frames = simulated(settings.strange, seed=settings.seed)
    else:
        chosen = np.random.default_rng(settings.seed).permutation(test)[: settings.strange].tolist()
        frames = imitated(
            [store.pixels[index] for index in chosen],
            store.labels[chosen].tolist(),
            store.groups[chosen].tolist(),
            seed=settings.seed,
        )
    return [part for part in gather(frames, answers.run) if part.kind != INSIDE]


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
    classes = tuple(
        label for number, label in enumerate(LABELS) if (store.labels[split.train] == number).any()
    )
    placeholder = FeatureBlock(name="none", start=0, stop=1, residual_scale=1, limit=1)
    return Card(
        schema_version=SCHEMA_VERSION,
        name=settings.name,
        version=settings.version,
        architecture=network.architecture,
        labels=LABELS,
        preprocessing=network.preprocessing,
        calibration=Calibration(
            temperature=1, set_threshold=0, set_alpha=settings.alpha, frames=0, patients=0
        ),
        out_of_distribution=OutOfDistribution(
            threshold=1, acceptance=settings.acceptance, blocks=(placeholder,)
        ),
        training_data=TrainingData(
            statement=_statement(store, sources, classes),
            sources=sources,
            patients=len(np.unique(store.groups[split.train])),
            frames=len(split.train),
            seed=int(notes["seed"]),
            initial_weights=str(notes["initial_weights"]),
            classes=classes,
            seen=_seen(store, split),
        ),
        activation="gradient, torch only" if network.entry.head == "token" else "in the graph",
        simulated=store.simulated,
        intended_use=INTENDED_USE,
        licence="Apache-2.0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
    )


def _write_weights(network: SmearNetwork, folder: Path, *, taken: Path | None) -> None:
    own: dict[str, Tensor] = {
        NETWORK_PREFIX + name: value.half().contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path = folder / WEIGHTS_FILE
    if taken is None:
        save_file(own, path)
    else:
        stored = {name: value for name, value in load_file(taken).items() if name.startswith(NETWORK_PREFIX)}
        needed = {name for name in own if not name.startswith(f"{NETWORK_PREFIX}kind_head.")}
        if not all(name in stored and torch.equal(stored[name], own[name]) for name in needed):
            raise TrainingError(f"{taken} holds another network than the run: its weights cannot be kept")
        shutil.copyfile(taken, path)
    path.chmod(0o644)


def save_guard(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write the detector's arrays beside the weights."""
    save_file(tensors, folder / GUARD_FILE)
    (folder / GUARD_FILE).chmod(0o644)


def write_card(card: Card, folder: Path) -> None:
    """Write card.json."""
    text = json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def _seen(store: FrameStore, split: Split) -> tuple[str, ...]:
    chosen = [*split.train.tolist(), *split.calibration.tolist()]
    hashes = {store.frames[index].sha256[:SEEN_DIGITS] for index in chosen}
    return tuple(sorted(hashes - {""}))


def _statement(store: FrameStore, sources: tuple[str, ...], classes: tuple[str, ...]) -> str:
    absent = [label for label in LABELS if label not in classes]
    rest = (
        f" Not trained: {', '.join(absent)}; it cannot name {'it' if len(absent) == 1 else 'them'}, and such a frame is referred or "
        "called something else."
        if absent
        else ""
    )
    if store.simulated:
        return f"Trained on SIMULATED smears only, never on a real one: for demonstration, not for diagnosis.{rest}"
    return f"Trained on frames of {', '.join(sources)}; not validated elsewhere: for research, not for diagnosis.{rest}"
