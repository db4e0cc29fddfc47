"""One protocol: copies made, a network trained on its side of the plan, and tested on the other."""

import csv
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from model_zoo.architecture import SmearNetwork
from model_zoo.checkpoint import STATE_FILE as CHECKPOINT
from model_zoo.checkpoint import load_checkpoint
from model_zoo.datasets.split import Split
from model_zoo.errors import TrainingError
from model_zoo.labels import LABELS
from model_zoo.schedule import Stage
from model_zoo.store import INDEX_FILE, FrameStore, StoredFrame
from model_zoo.study.made import MADE, MadeImages
from model_zoo.study.originals import Originals, Progress
from model_zoo.study.plan import Plan
from model_zoo.study.recipe import Recipe
from model_zoo.training import RUN_FILE, Trainer, TrainingSettings

logger = logging.getLogger(__name__)

CURVE_FILE: Final = "curve.csv"
ANSWERS_FILE: Final = "answers.csv"
WATCHED: Final = 200
"""Tested images whose loss is followed from epoch to epoch; nothing is chosen by it, the last epoch counts."""


@dataclass(frozen=True)
class Start:
    """Where the weights come from.

    Attributes:
        from_scratch: Random.
        weights: A local safetensors file; otherwise, if not from scratch, the hub.
    """

    from_scratch: bool = False
    weights: Path | None = None


@dataclass(frozen=True)
class Trained:
    """A network that a protocol trained.

    Attributes:
        network: On the CPU.
        origin: Where its weights started, in words.
        curve: One entry an epoch: loss and accuracy in training and in the test.
    """

    network: SmearNetwork
    origin: str
    curve: list[dict[str, Any]]


class ProtocolRun:
    """Trains one network by one plan, in one folder."""

    def __init__(
        self,
        plan: Plan,
        originals: Originals,
        folder: Path,
        *,
        recipe: Recipe,
        seed: int,
        made: MadeImages | None = None,
        quiet: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Store what `train` will need.

        Args:
            plan: Who is on which side.
            originals: The images.
            folder: For copies, checkpoints and curves.
            recipe: How to train.
            seed: Of copies, weights and order.
            made: Made images to train on as well.
            quiet: Show no progress bar.
            progress: Told of each copy that is made.
        """
        self.plan, self.originals, self.folder, self.recipe = plan, originals, folder, recipe
        self._seed, self._made, self._quiet = seed, made, quiet
        self._progress = progress or (lambda _what, _done, _total: None)
        present = set(np.unique(originals.labels).tolist())
        self._absent = [number for number in range(len(LABELS)) if number not in present]

    def train(self, start: Start, *, resume: bool) -> Trained:
        """Train to the recipe's end, or go on from the last checkpoint.

        Raises:
            PretrainedWeightsError: If pre-trained weights are wanted and cannot be had.
            TrainingError: If the loss is no longer finite.
        """
        resume = resume and (self.folder / CHECKPOINT).is_file()
        store = self._store()
        extra = np.arange(len(self.plan.origin), len(store))
        split = Split(np.concatenate([self.plan.train, extra]), _NOBODY, self.plan.test)
        settings = TrainingSettings(
            self.recipe.architecture,
            self.recipe.stages(pretrained=not start.from_scratch),
            from_scratch=start.from_scratch,
            weights=start.weights,
            seed=self._seed,
        )
        watched = self.plan.test[:: max(1, len(self.plan.test) // WATCHED)]
        curve = _read_curve(self.folder / CURVE_FILE) if resume else []
        follower = SmearNetwork(self.recipe.architecture)

        def follow(entry: dict[str, Any]) -> None:
            load_checkpoint(self.folder, follower)
            logits = self.logits(follower, np.asarray(store.pixels[watched]))
            truth = torch.from_numpy(store.labels[watched])
            loss = float(functional.cross_entropy(torch.from_numpy(logits), truth))
            accuracy = float((logits.argmax(axis=1) == truth.numpy()).mean())
            curve.append(
                {
                    "batch": self._batch(settings.plan, entry),
                    "train_loss": entry["loss"],
                    "test_loss": round(loss, 4),
                    "train_accuracy": entry["train_accuracy"],
                    "test_accuracy": round(accuracy, 4),
                    "seconds": entry["seconds"],
                }
            )
            _write_rows(self.folder / CURVE_FILE, curve)

        network = Trainer(settings, store, split, self.folder, quiet=self._quiet).run(
            resume=resume, report=follow
        )
        origin = json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))["initial_weights"]
        return Trained(network, str(origin), curve)

    @staticmethod
    def _batch(stages: tuple[Stage, ...], entry: dict[str, Any]) -> int:
        """Batches trained on when a stage's epoch ends."""
        batches = 0
        for stage in stages:
            here = stage.name == entry["stage"]
            batches += (entry["epoch"] if here else stage.epochs) * (stage.samples // stage.batch_size)
            if here:
                break
        return batches

    def test(self, network: SmearNetwork) -> NDArray[np.int64]:
        """Answers (m,) to the tested entries of the plan."""
        augmentation = self.recipe.augmentation.augmentation
        answers = []
        for first in range(0, len(self.plan.test), 256):
            entries = self.plan.test[first : first + 256].tolist()
            images = [
                self.originals.varied(
                    int(self.plan.origin[entry]), int(self.plan.copy[entry]), augmentation, seed=self._seed
                )
                for entry in entries
            ]
            answers.append(self.answers(network, np.stack(images)))
        return np.concatenate(answers)

    def answers(self, network: SmearNetwork, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The class (N,) of images (N, S, S, 3), among those that were trained on."""
        return np.asarray(self.logits(network, pixels).argmax(axis=1), np.int64)

    def logits(self, network: SmearNetwork, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, C) of images (N, S, S, 3) at the recipe's size; those of absent classes are very low."""
        preprocessing = network.preprocessing
        network.eval()
        found = []
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            for first in range(0, len(pixels), 64):
                images = np.stack([preprocessing.normalise(image) for image in pixels[first : first + 64]])
                batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
                found.append(network(batch)[0].float().numpy())
        logits = np.concatenate(found)
        logits[:, self._absent] = -1e4
        return logits

    def write_answers(self, predicted: NDArray[np.int64]) -> None:
        """Keep every answer of the test, so that figures can be made again."""
        rows = [
            {
                "path": self.originals.paths[int(self.plan.origin[entry])],
                "copy": int(self.plan.copy[entry]),
                "group": int(self.originals.groups[int(self.plan.origin[entry])]),
                "label": LABELS[int(self.originals.labels[int(self.plan.origin[entry])])],
                "predicted": LABELS[answer],
            }
            for entry, answer in zip(self.plan.test.tolist(), predicted.tolist(), strict=True)
        ]
        _write_rows(self.folder / ANSWERS_FILE, rows)

    def tidy(self) -> None:
        """Remove the copies; the seed makes them again."""
        shutil.rmtree(self.folder / "copies", ignore_errors=True)

    def _store(self) -> FrameStore:
        folder = self.folder / "copies"
        total = len(self.plan.origin) + (len(self._made) if self._made else 0)
        if (folder / INDEX_FILE).is_file():
            store = FrameStore.open(folder)
            if len(store) == total and store.pixels.shape[1] == self.recipe.size:
                return store
        return FrameStore.write(
            folder,
            self._items(),
            total=total,
            progress=lambda done, all_: self._progress("Copies", done, all_),
        )

    def _items(self) -> Iterator[tuple[NDArray[np.uint8], StoredFrame]]:
        """Every entry of the plan; as published each is a group of its own, which is the fault of that protocol."""
        augmentation = self.recipe.augmentation.augmentation
        mixed = self.plan.protocol == "as-published"
        for entry, (index, copy) in enumerate(
            zip(self.plan.origin.tolist(), self.plan.copy.tolist(), strict=True)
        ):
            group = int(self.originals.groups[index])
            yield (
                self.originals.varied(index, copy, augmentation, seed=self._seed),
                StoredFrame(
                    label=int(self.originals.labels[index]),
                    patient=str(group),
                    group=entry if mixed else group,
                    aspect=float(self.originals.aspect[index]),
                    source=self.originals.sources[index],
                ),
            )
        if self._made is not None:
            first = int(self.originals.groups.max()) + 1
            for number, (image, label) in enumerate(self._made.resized(self.recipe.size)):
                name = f"{MADE}-{LABELS[label]}-{number:05d}"
                yield (
                    image,
                    StoredFrame(
                        label=label, patient=name, group=first + number, aspect=1.0, source=MADE, name=name
                    ),
                )


_NOBODY: Final = np.zeros(0, np.int64)


def check_same(folder: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Refuse to go on with other settings, or to write over another study.

    Raises:
        TrainingError: If the folder holds a study and `resume` is off, or one with other settings.
    """
    path = folder / "settings.json"
    if path.is_file() and any(folder.glob(f"*/{CHECKPOINT}")):
        if not resume:
            raise TrainingError(
                f"{folder} already holds a study: go on with --resume, or choose another --out"
            )
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if changed:
            raise TrainingError(
                f"{folder} holds a study with other settings ({', '.join(changed)}): resume with those it had, or choose "
                "another --out"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _read_curve(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: int(value) if key == "batch" else float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
