"""A study: one network by one protocol or both, measured, and laid beside what was published."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.manifest import ManifestRow
from model_zoo.datasets.split import manifest_hash
from model_zoo.labels import LABELS
from model_zoo.study.made import MADE, MadeImages, make_images, training_only
from model_zoo.study.measure import Answers, difference, measure
from model_zoo.study.originals import Originals, Progress, check_fresh, choose
from model_zoo.study.plan import PROTOCOLS, WORDS, Plan, Protocol, make_plan
from model_zoo.study.protocol import ProtocolRun, Start, check_same
from model_zoo.study.published import TEST_IMAGES, published
from model_zoo.study.recipe import Recipe
from model_zoo.study.verdict import caveat, truth, warnings

SCHEMA: Final = "hemolink.study/1"
REPORT_FILE: Final = "study.json"
WITH_MADE: Final = "honest + made"


@dataclass(frozen=True)
class StudySettings:
    """What is wanted.

    Attributes:
        recipe: Network, length, counts.
        protocols: One or both.
        start: Where weights come from.
        all_images: Take all of the manifest's images, and not as many as the study had.
        null_labels: Draw labels at random, one image a group.
        made_images: Train a third time, honestly, with so many made images as well.
        generator_steps: Of the generator's training.
        seed: Of all chance.
    """

    recipe: Recipe
    protocols: tuple[Protocol, ...] = PROTOCOLS
    start: Start = field(default_factory=Start)
    all_images: bool = False
    null_labels: bool = False
    made_images: int = 0
    generator_steps: int = 1200
    seed: int = 0


@dataclass(frozen=True)
class Study:
    """A finished study.

    Attributes:
        report: What was found, ready for JSON.
        made: The images that were made, or None.
    """

    report: dict[str, Any]
    made: MadeImages | None


class StudyRun:
    """Runs a study in one folder; going on there may add a protocol, or made images."""

    def __init__(
        self,
        settings: StudySettings,
        rows: Sequence[ManifestRow],
        folder: Path,
        *,
        fresh: Sequence[ManifestRow] = (),
        quiet: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Store what `run` will need.

        Args:
            settings: What is wanted.
            rows: Labelled rows of a manifest.
            folder: For the results; holds checkpoints meanwhile.
            fresh: Labelled rows of patients that no protocol may see: the truth to hold the figures against.
            quiet: Show no progress.
            progress: Told what is going on.
        """
        self.settings, self.rows, self.folder, self.fresh_rows = settings, rows, folder, fresh
        self._quiet, self._progress = quiet, progress

    def run(self, *, resume: bool = False) -> Study:
        """Train, test and measure; what is already done in the folder is not done again.

        Raises:
            DatasetError: If images or groups do not suffice, or fresh images are tied to the others.
            PretrainedWeightsError: If pre-trained weights are wanted and cannot be had.
            TrainingError: If the folder holds another study, or training fails.
        """
        settings = self.settings
        if self.fresh_rows:
            check_fresh(self.rows, self.fresh_rows)
        originals, fresh = self._originals(), self._fresh()
        plans = {
            protocol: make_plan(
                protocol,
                originals.labels,
                originals.groups,
                recipe=settings.recipe,
                seed=settings.seed,
                copies=self._copies(originals),
                by_class=not settings.null_labels,
            )
            for protocol in settings.protocols
        }
        if settings.made_images:
            training_only(plans.get("honest", next(iter(plans.values()))), originals)
        check_same(self.folder, self._identity(), resume=resume)
        classes = sorted(set(originals.labels.tolist()))
        arms: dict[str, _Arm] = {}
        for protocol, plan in plans.items():
            arms[protocol] = self._arm(protocol, plan, originals, fresh, resume=resume)
        made = None
        if settings.made_images:
            made = make_images(
                plans["honest"],
                originals,
                settings.made_images,
                steps=settings.generator_steps,
                seed=settings.seed,
                folder=self.folder / f"generator-{settings.generator_steps}",
                progress=self._progress,
            )
            arms[WITH_MADE] = self._arm(
                WITH_MADE, plans["honest"], originals, fresh, resume=resume, made=made
            )
        return Study(self._report(originals, fresh, arms, classes), made)

    def _originals(self) -> Originals:
        settings = self.settings
        chosen = choose(
            self.rows,
            originals=None if settings.all_images else settings.recipe.originals,
            seed=settings.seed,
            one_a_group=settings.null_labels,
        )
        found = Originals.load(self.rows, chosen, size=settings.recipe.size, progress=self._progress)
        return found.with_random_labels(settings.seed) if settings.null_labels else found

    def _fresh(self) -> Originals | None:
        if not self.fresh_rows:
            return None
        everyone = np.arange(len(self.fresh_rows))
        return Originals.load(
            self.fresh_rows, everyone, size=self.settings.recipe.size, progress=self._progress
        )

    def _copies(self, originals: Originals) -> dict[int, int] | None:
        """With random labels, all classes get as many copies an image as the study made on average."""
        if not self.settings.null_labels:
            return None
        recipe = self.settings.recipe
        factor = sum(recipe.augmented.values()) / sum(recipe.originals.values())
        counts = np.bincount(originals.labels, minlength=len(LABELS))
        return {number: round(factor * count) for number, count in enumerate(counts.tolist()) if count}

    def _arm(
        self,
        name: str,
        plan: Plan,
        originals: Originals,
        fresh: Originals | None,
        *,
        resume: bool,
        made: MadeImages | None = None,
    ) -> "_Arm":
        settings = self.settings
        folder = self.folder / name.replace(" ", "")
        if made is not None:
            folder = folder.with_name(f"{folder.name}-{len(made)}")
        done = folder / "arm.json"
        if resume and done.is_file():
            return _Arm.read(done, plan)
        run = ProtocolRun(
            plan,
            originals,
            folder,
            recipe=settings.recipe,
            seed=settings.seed,
            made=made,
            quiet=self._quiet,
            progress=self._progress,
        )
        trained = run.train(settings.start, resume=resume)
        predicted = run.test(trained.network)
        run.write_answers(predicted)
        arm = _Arm(
            plan,
            trained.origin,
            trained.curve,
            predicted,
            run.answers(trained.network, fresh.pixels) if fresh is not None else None,
        )
        arm.write(done)
        run.tidy()
        return arm

    def _identity(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "recipe": settings.recipe.model_dump(mode="json"),
            "from_scratch": settings.start.from_scratch,
            "weights": str(settings.start.weights or ""),
            "all_images": settings.all_images,
            "null_labels": settings.null_labels,
            "seed": settings.seed,
            "manifest": manifest_hash(self.rows),
            "fresh": manifest_hash(self.fresh_rows) if self.fresh_rows else "",
        }

    def _report(
        self,
        originals: Originals,
        fresh: Originals | None,
        arms: dict[str, "_Arm"],
        classes: list[int],
    ) -> dict[str, Any]:
        settings = self.settings
        known = published(settings.recipe.architecture)
        counts = np.bincount(originals.labels, minlength=len(LABELS))
        answers = {name: arm.answers(originals) for name, arm in arms.items()}
        report: dict[str, Any] = {
            "schema": SCHEMA,
            "architecture": settings.recipe.architecture,
            "simulated": originals.simulated,
            "null_labels": settings.null_labels,
            "start": next(iter(arms.values())).origin,
            "seed": settings.seed,
            "recipe": settings.recipe.model_dump(mode="json"),
            "classes": [LABELS[number] for number in classes],
            "originals": {LABELS[number]: int(counts[number]) for number in classes},
            "groups": {
                LABELS[number]: len(np.unique(originals.groups[originals.labels == number]))
                for number in classes
            },
            "sources": _sources(originals, classes),
            "published": None
            if known is None
            else {
                "accuracy": known.accuracy,
                "errors": known.errors,
                "test_images": TEST_IMAGES,
                "by_class": {LABELS[number]: known.by_class[LABELS[number]] for number in classes},
                "originals": {
                    LABELS[number]: settings.recipe.originals[LABELS[number]] for number in classes
                },
            },
            "protocols": {
                name: {
                    "how": WORDS[arm.plan.protocol]
                    + (f", {settings.made_images} {MADE} images added" if name == WITH_MADE else ""),
                    "train_images": len(arm.plan.train) + (settings.made_images if name == WITH_MADE else 0),
                    "test_images": len(arm.plan.test),
                    "tested_with_sibling_in_training": round(arm.plan.siblings(), 5),
                    "curve": arm.curve,
                    "figures": measure(answers[name], classes=classes, seed=settings.seed),
                    "fresh": None
                    if fresh is None or arm.fresh is None
                    else measure(_fresh_answers(fresh, arm), classes=classes, seed=settings.seed),
                }
                for name, arm in arms.items()
            },
        }
        report["truth"] = truth(report["protocols"]) if fresh is not None else None
        report["made"] = None
        if WITH_MADE in arms and "honest" in arms:
            both = (arms["honest"], arms[WITH_MADE])
            report["made"] = {
                "images": settings.made_images,
                "generator_steps": settings.generator_steps,
                "test": difference(answers["honest"], answers[WITH_MADE], seed=settings.seed),
                "fresh": None
                if fresh is None
                else difference(*(_fresh_answers(fresh, arm) for arm in both), seed=settings.seed),
            }
        report["caveat"] = caveat(report)
        report["warnings"] = warnings(report)
        _write_whole(self.folder / REPORT_FILE, json.dumps(report, indent=1))
        return report


@dataclass(frozen=True)
class _Arm:
    """One trained network and its answers."""

    plan: Plan
    origin: str
    curve: list[dict[str, Any]]
    predicted: NDArray[np.int64]
    fresh: NDArray[np.int64] | None

    def answers(self, originals: Originals) -> Answers:
        index = self.plan.origin[self.plan.test]
        return Answers(originals.labels[index], self.predicted, originals.groups[index])

    def write(self, path: Path) -> None:
        content = {
            "origin": self.origin,
            "curve": self.curve,
            "predicted": self.predicted.tolist(),
            "fresh": None if self.fresh is None else self.fresh.tolist(),
        }
        _write_whole(path, json.dumps(content))

    @classmethod
    def read(cls, path: Path, plan: Plan) -> "_Arm":
        content = json.loads(path.read_text(encoding="utf-8"))
        fresh = content["fresh"]
        return cls(
            plan,
            content["origin"],
            content["curve"],
            np.asarray(content["predicted"], np.int64),
            None if fresh is None else np.asarray(fresh, np.int64),
        )


def _fresh_answers(fresh: Originals, arm: _Arm) -> Answers:
    if arm.fresh is None:
        raise AssertionError("fresh images without answers")
    return Answers(fresh.labels, arm.fresh, fresh.groups)


def _sources(originals: Originals, classes: Sequence[int]) -> dict[str, dict[str, int]]:
    """Images of each class by source."""
    found: dict[str, dict[str, int]] = {}
    for number in classes:
        own = [
            source
            for source, label in zip(originals.sources, originals.labels.tolist(), strict=True)
            if label == number
        ]
        found[LABELS[number]] = {source: own.count(source) for source in sorted(set(own))}
    return found


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
