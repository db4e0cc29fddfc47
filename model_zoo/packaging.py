"""From a trained run to a model package: fp16 weights, calibration, thresholds, figures, graph, card."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_zoo import optics
from model_zoo.acute import MISS_LIMIT
from model_zoo.architecture import NETWORK_PREFIX, SmearNetwork
from model_zoo.card import (
    CARD_FILE,
    GRAPH_FILE,
    GUARD_FILE,
    NAME_PATTERN,
    WEIGHTS_FILE,
    Card,
    Estimate,
    Expectation,
)
from model_zoo.card_draft import draft_card
from model_zoo.checkpoint import load_checkpoint
from model_zoo.datasets.split import Split
from model_zoo.detector_fit import ACCEPTANCE, DIMENSIONS
from model_zoo.engine_answers import Answers, Progress, made_outsiders
from model_zoo.engines import create_engine
from model_zoo.engines.protocol import Precision
from model_zoo.errors import PackageError, TrainingError
from model_zoo.evaluation import REAL_STATEMENT, SIMULATED_STATEMENT, measure
from model_zoo.expectation import expect_inside
from model_zoo.export import export_graph, write_graph
from model_zoo.guard import Evidence, Guard, GuardSettings, fit_guard
from model_zoo.guard_check import check_guard
from model_zoo.labels import LABELS
from model_zoo.package import ModelPackage, file_sha256
from model_zoo.store import FrameStore
from model_zoo.training import RUN_FILE
from model_zoo.tree.fitting import FinerModel, Labelled, fit_finer, measured, nodes_of


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
    acceptance: float = ACCEPTANCE
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
    if (
        not isinstance(notes, dict)
        or not {"architecture", "seed", "initial_weights", "split"} <= notes.keys()
    ):
        raise TrainingError(f"{run / RUN_FILE} is not what hemolink model train writes: train the run again")
    network = SmearNetwork(notes["architecture"])
    load_checkpoint(run, network, strict=False)
    halved = {
        name: value.half().float() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(halved)
    parts = (np.asarray(notes["split"][part], np.int64) for part in ("train", "calibration", "test"))
    return network.eval(), Split(*parts), notes


def check_place(folder: Path, *, name: str) -> None:
    """Refuse a name that no package may have, and a folder that holds anything but a package: it will be replaced.

    Raises:
        PackageError: In both cases; nothing was touched.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise PackageError(
            f"{name!r} cannot be a package's name: take at most 64 small letters, digits, dots, hyphens and underscores, a letter or "
            "digit first"
        )
    if not folder.exists():
        return
    own = {CARD_FILE, WEIGHTS_FILE, GRAPH_FILE, GUARD_FILE}
    strange = (
        sorted(entry.name for entry in folder.iterdir() if entry.name not in own)
        if folder.is_dir()
        else [folder.name]
    )
    if strange:
        raise PackageError(
            f"{folder} holds something else than a model package (first: {strange[0]}), which packaging would delete: choose another "
            "--name or --out"
        )


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
        folder: The package's folder; a package that lies there is replaced.
        settings: Names and what is asked of the guard.
        further: More calibration frames, of groups that are in no part of the run.
        outside: By name, frames (H, W, 3) that the detector should refuse, for the card; beside those made from test frames.
        weights: A weights file to take as it is, byte by byte; its network must be the run's.
        baseline: Macro accuracy of the baseline on the same split.
        expectation: What error to expect; that on the test groups otherwise.
        progress: Called with a stage, images done and total.

    Raises:
        PackageError: If the name is none, or the folder holds anything but a package.
        TrainingError: If the run has no checkpoint, there is no calibration or test frame, or the weights are another network's.
        DatasetError: If the split divides a patient group.
    """
    check_place(folder, name=settings.name)
    network, split, notes = load_run(run)
    split.check(store.groups)
    if not len(split.test):
        raise TrainingError(
            f"{run} has no test frame: a package's figures need groups that nothing was fitted to"
        )
    with _replaced(folder) as partial:
        _write_weights(network, partial, taken=weights)
        write_graph(export_graph(network), partial / GRAPH_FILE, weights=partial / WEIGHTS_FILE)
        card = draft_card(
            store,
            split,
            notes,
            network=network,
            name=settings.name,
            version=settings.version,
            alpha=settings.alpha,
            acceptance=settings.acceptance,
        )
        engine = create_engine(ModelPackage(partial, card), precision=settings.precision)
        engine.start()
        try:
            answers = Answers(engine, card.preprocessing, progress)
            spread = np.linspace(0, len(split.train) - 1, min(settings.reference_frames, len(split.train)))
            reference = answers.of("reference", store, split.train[spread.astype(int)])
            calibration = answers.of("calibration", store, split.calibration)
            if further is not None:
                calibration = calibration.joined(
                    answers.of("further calibration", further, np.arange(len(further)))
                )
            test = answers.of("test", store, split.test)
            strangers = [
                *made_outsiders(answers, store, split.test, count=settings.strange, seed=settings.seed),
                *(answers.outsiders(kind, images) for kind, images in (outside or {}).items()),
            ]
        finally:
            engine.stop()
        guard = fit_guard(
            reference, calibration, labels=LABELS, bounds=guarded(network), settings=settings.guard
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
    return ModelPackage.load(folder)


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of ``folder`` once it is whole; of what fails nothing stays."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def guarded(network: SmearNetwork) -> dict[str, tuple[int, int]]:
    """Where the features of each of the detector's blocks lie: the network's levels, then the optics."""
    bounds = network.feature_bounds
    end = max(stop for _, stop in bounds.values())
    return bounds | {optics.NAME: (end, end + optics.FEATURES)}


def with_guard(card: Card, guard: Guard) -> Card:
    """A card with a guard's rules."""
    return card.model_copy(
        update={
            "calibration": guard.rules.calibration,
            "out_of_distribution": guard.rules.out_of_distribution,
            "acute": guard.rules.acute,
        }
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
