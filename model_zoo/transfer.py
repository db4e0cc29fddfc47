"""Leave-one-source-out: what a recipe's network does on a laboratory that its training has not seen.

A finished run is the recipe. For every source of its frames the same plan is run again without that source, packaged, and
asked about all of that source's frames through the very path that serves: preprocessing, engine, calibration, prediction
sets, out-of-distribution score. Sources without labels are put to the run's own package, which has not seen them either.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Estimate, Expectation, Expected, LeftOut
from model_zoo.checkpoint import STATE_FILE
from model_zoo.datasets.manifest import ManifestRow, load_image, patient_groups
from model_zoo.datasets.split import PARTS, Split
from model_zoo.errors import DatasetError, TrainingError
from model_zoo.expectation import against, expect_inside, expectation, left_out
from model_zoo.intervals import proportion
from model_zoo.labels import LABELS
from model_zoo.package import ModelPackage
from model_zoo.packaging import PackageSettings, build_package, load_run
from model_zoo.predictor import Prediction, Predictor
from model_zoo.store import FrameStore
from model_zoo.training import RUN_FILE, Trainer, TrainingSettings, read_settings

TRANSFER_FILE: Final = "transfer.json"
SCHEMA: Final = 1
LIMIT: Final = 0.05
"""Largest share of an unseen laboratory's frames that may be reported and wrong."""
DRAWS: Final = 2000
Say = Callable[[str], None]


@dataclass(frozen=True)
class Transferred:
    """What a network did on one left-out source.

    Attributes:
        row: Counts.
        counted: Share of frames that count against the limit, with Wilson's interval.
        by_groups: (low, high) of that share by drawing groups again.
        forced: Share of frames whose most probable class is right, were every frame answered; None where no truth is known.
        trained_on: Sources that the network was trained on.
    """

    row: LeftOut
    counted: Estimate
    by_groups: tuple[float, float]
    forced: Estimate | None
    trained_on: tuple[str, ...]

    @property
    def within(self) -> bool:
        """Whether the share that counts against it is within the limit."""
        return self.counted.value <= LIMIT


@dataclass(frozen=True)
class Transfer:
    """The whole measurement: inside, and every source left out.

    Attributes:
        inside: Of the run itself.
        sources: One each that was left out.
        unmeasured: Why not, by source.
        run: Identity of the run, so that its figures stand on no other's card.
        alpha: Wanted miscoverage of the sets that decided what was referred.
    """

    inside: Expected
    sources: tuple[Transferred, ...]
    unmeasured: dict[str, str]
    run: str
    alpha: float

    @property
    def expectation(self) -> Expectation:
        """For the card."""
        return expectation(self.inside, [found.row for found in self.sources])


class Leaver:
    """Leaves sources out, one at a time, of one run."""

    def __init__(
        self,
        run: Path,
        store: FrameStore,
        rows: Sequence[ManifestRow],
        *,
        settings: PackageSettings,
        fractions: tuple[float, float, float],
        seed: int,
        say: Say,
    ) -> None:
        """Store what `measure` will need.

        Args:
            run: A finished run's folder.
            store: Its frames.
            rows: The manifest, rows without a label too.
            settings: Of the packages.
            fractions: Shares of the groups for train, calibration and test.
            seed: Of the splits.
            say: Where progress goes.
        """
        self._run, self._store, self._rows = run, store, list(rows)
        self._settings, self._fractions, self._seed, self._say = settings, fractions, seed, say

    def measure(self, sources: Sequence[str]) -> Transfer:
        """Leave each source out in turn, and measure the run itself on its test groups.

        Raises:
            DatasetError: If a source is unknown, or the run's frames are of one source only.
            TrainingError: If the run is unfinished or its settings are not known.
        """
        recipe = read_settings(self._run)
        known = set(self._store.sources)
        strange = sorted(set(sources) - known - {row.source for row in self._rows})
        if strange:
            raise DatasetError(
                f"no frame comes from {', '.join(strange)}: the sources are {', '.join(sorted(known))}"
            )
        if len(known) == 1:
            raise DatasetError(
                f"all labelled frames come from {next(iter(known))}: what happens elsewhere takes a second source"
            )
        whole = self._package(self._run, "whole")
        inside = self._inside(whole)
        found, unmeasured = [], {}
        for source in sources:
            try:
                package = self._without(source, recipe) if source in known else whole
            except (DatasetError, TrainingError) as error:
                unmeasured[source] = str(error)
                continue
            found.append(self._ask(source, package))
            row = found[-1].row
            self._say(
                f"{source}: {row.frames} frames, {against(row)} counted against it, {row.referred} referred"
            )
        return Transfer(inside, tuple(found), unmeasured, run_identity(self._run), self._settings.alpha)

    def _without(self, source: str, recipe: TrainingSettings) -> ModelPackage:
        folder = self._run / f"without-{source}"
        split = self._store.split(fractions=self._fractions, seed=self._seed, leave_out=(source,))
        if _finished(folder, recipe, split):
            self._say(f"trained without {source} already")
            return self._package(folder, f"without-{source}")
        self._say(f"training without {source}: {len(split.train)} frames")
        Trainer(recipe, self._store, split, folder, quiet=True).run(
            report=lambda entry: self._say("  ".join(f"{key} {value}" for key, value in entry.items()))
        )
        return self._package(folder, f"without-{source}")

    def _package(self, run: Path, name: str) -> ModelPackage:
        self._say(f"packaging {name}")
        return build_package(run, self._store, run / "measured", settings=self._settings)

    def _inside(self, package: ModelPackage) -> Expected:
        _, split, _ = load_run(self._run)
        if not len(split.test):
            raise TrainingError(f"{self._run} has no test groups: train it with a split that has some")
        indices = split.test.tolist()
        predictions = _answers(package, [np.asarray(self._store.pixels[index]) for index in indices])
        return expect_inside(
            predictions,
            [LABELS[self._store.labels[index]] for index in indices],
            self._store.groups[split.test],
            sources=[self._store.sources[index] for index in indices],
        )

    def _ask(self, source: str, package: ModelPackage) -> Transferred:
        rows = [row for row in self._rows if row.source == source]
        self._say(f"asking about {len(rows)} frames of {source}")
        predictions = _answers(package, (load_image(row) for row in rows))
        trained = set(package.card.training_data.classes or package.labels)
        truths = {row.label for row in rows if row.label}
        row = left_out(
            source, predictions, [row.label for row in rows], identifiable=bool(truths) and truths <= trained
        )
        reported = np.asarray([found.decision == "report" for found in predictions], np.bool_)
        right = np.asarray(
            [found.prediction == own.label for found, own in zip(predictions, rows, strict=True)]
        )
        named = np.asarray([bool(own.label) for own in rows])
        return Transferred(
            row=row,
            counted=proportion(against(row), row.frames),
            by_groups=_drawn(reported & ~right, patient_groups(rows)),
            forced=proportion(int(right[named].sum()), int(named.sum())) if named.any() else None,
            trained_on=package.card.training_data.sources,
        )


def _finished(folder: Path, recipe: TrainingSettings, split: Split) -> bool:
    """Whether a folder holds a run of this very recipe and split, trained to its end."""
    try:
        if read_settings(folder) != recipe:
            return False
        _, found, _ = load_run(folder)
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (TrainingError, OSError, json.JSONDecodeError):
        return False
    same = all(np.array_equal(getattr(found, part), getattr(split, part)) for part in PARTS)
    return same and state["stage"] >= len(recipe.plan)


def _answers(package: ModelPackage, images: Any) -> list[Prediction]:
    predictor = Predictor(package)
    predictor.start()
    try:
        found: list[Prediction] = []
        batch = []
        for image in images:
            batch.append(predictor.prepare(image))
            if len(batch) == predictor.max_batch_size:
                found += predictor.infer(batch)
                batch = []
        return found + (predictor.infer(batch) if batch else [])
    finally:
        predictor.stop()


def _drawn(hits: NDArray[np.bool_], groups: NDArray[np.int64], *, seed: int = 0) -> tuple[float, float]:
    """2.5 and 97.5 percentiles of a share of frames, by drawing groups again."""
    _, index = np.unique(groups, return_inverse=True)
    frames, found = np.bincount(index), np.bincount(index, weights=hits)
    count = len(frames)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    low, high = np.percentile((weights @ found) / (weights @ frames), [2.5, 97.5])
    return float(low), float(high)


def run_identity(run: Path) -> str:
    """What tells a run from another: SHA-256 of its notes, which hold its plan, its split and where its weights came from.

    Raises:
        TrainingError: If the folder holds no run.
    """
    try:
        return hashlib.sha256((run / RUN_FILE).read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(f"{run} holds no training run ({RUN_FILE} cannot be read)") from error


def as_document(transfer: Transfer) -> dict[str, Any]:
    """A measurement as JSON."""
    return {
        "schema": SCHEMA,
        "limit": LIMIT,
        "run": transfer.run,
        "alpha": transfer.alpha,
        "expectation": transfer.expectation.model_dump(mode="json"),
        "sources": [
            {
                **found.row.model_dump(mode="json"),
                "reported_and_wrong": found.counted.model_dump(mode="json"),
                "by_groups": list(found.by_groups),
                "forced": found.forced.model_dump(mode="json") if found.forced else None,
                "trained_on": list(found.trained_on),
                "within": found.within,
            }
            for found in transfer.sources
        ],
        "unmeasured": transfer.unmeasured,
    }


def write_transfer(transfer: Transfer, run: Path) -> Path:
    """Write a measurement into its run's folder, for `hemolink model package --transfer`."""
    path = run / TRANSFER_FILE
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(as_document(transfer), indent=1), encoding="utf-8")
    partial.replace(path)
    return path
