"""Training: a plan's stages, one after the other, with checkpoints, on a CPU or a CUDA device."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from model_zoo.architecture import SmearNetwork, load_pretrained
from model_zoo.augmentation import Augmentation
from model_zoo.checkpoint import Progress, load_checkpoint, restore_optimizer, save_checkpoint
from model_zoo.datasets.split import Split
from model_zoo.errors import TrainingError
from model_zoo.labels import LABELS
from model_zoo.sampling import Batch, CellSampler, FieldSampler, prefetched
from model_zoo.schedule import Stage, one_cycle
from model_zoo.store import FrameStore

logger = logging.getLogger(__name__)

RUN_FILE: Final = "run.json"
SAME: Final = ("architecture", "seed", "plan", "split")
"""Of a run's notes, what may not change when it is resumed."""
ABSENT_LOGIT: Final = -10_000.0
DEPTHS: Final = 16
FROZEN_BELOW: Final = 0.01
"""A layer whose rate is less than this share of the head's is left as it is, which saves going back through it."""

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrainingSettings:
    """What a run needs beside its data.

    Attributes:
        architecture: One of `ARCHITECTURES`.
        plan: The stages.
        from_scratch: Start from random weights; otherwise ImageNet weights are required.
        weights: A local safetensors file with the body's weights; None asks the hub.
        seed: Of weights, order and augmentation.
        label_smoothing: Of the class loss.
        weight_decay: Of AdamW, on matrices and kernels only.
        bf16: Compute in bfloat16 where the machine does.
    """

    architecture: str
    plan: tuple[Stage, ...]
    from_scratch: bool = False
    weights: Path | None = None
    seed: int = 0
    label_smoothing: float = 0.05
    weight_decay: float = 0.02
    bf16: bool = True


class Trainer:
    """One training run in one folder."""

    def __init__(
        self,
        settings: TrainingSettings,
        store: FrameStore,
        split: Split,
        folder: Path,
        *,
        quiet: bool = False,
    ) -> None:
        """Store what `run` will need.

        Args:
            settings: Network, plan and seeds.
            store: Frames of all parts.
            split: Which frames train; refused here if it divides a patient group.
            folder: Where checkpoints and the log go.
            quiet: Show no progress bar.

        Raises:
            DatasetError: If the split divides a patient group.
        """
        split.check(store.groups)
        self.settings, self.store, self.split, self.folder = settings, store, split, folder
        self._quiet = quiet
        self._kinds = store.kinds if any(s.sample == "cells" or s.kind_weight for s in settings.plan) else []
        self._trained = trained_classes(store, split)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"

    def run(self, *, resume: bool = False, report: Report | None = None) -> SmearNetwork:
        """Train to the plan's end.

        Args:
            resume: Go on from the folder's checkpoint.
            report: Called after every epoch with its entry of the history.

        Returns:
            The network, on the CPU, in evaluation mode.

        Raises:
            PretrainedWeightsError: If pre-trained weights are wanted and cannot be had.
            TrainingError: If there is no checkpoint to resume, it is one of other settings, or the loss is no longer finite.
        """
        torch.manual_seed(self.settings.seed)
        kinds = len(self._kinds) + 1 if self._kinds else 0
        network = SmearNetwork(self.settings.architecture, kinds=kinds)
        silence(network, self._trained)
        progress = Progress()
        moments: dict[str, dict[str, Tensor]] = {}
        if resume:
            self._check_same()
            progress, moments = load_checkpoint(self.folder, network)
        else:
            self._write_run(self._initialise(network))
            save_checkpoint(self.folder, network, None, progress)
        network.to(self._device, memory_format=torch.channels_last)
        for number in range(progress.stage, len(self.settings.plan)):
            stage = self.settings.plan[number]
            optimizer = self._optimizer(network, stage)
            if number == progress.stage and moments:
                restore_optimizer(optimizer, network, moments)
            first = progress.epoch if number == progress.stage else 0
            for epoch in range(first, stage.epochs):
                entry = self._epoch(network, optimizer, number, epoch)
                done = epoch + 1 == stage.epochs
                progress = Progress(number + done, 0 if done else epoch + 1, (*progress.history, entry))
                save_checkpoint(self.folder, network, None if done else optimizer, progress)
                if report is not None:
                    report(entry)
        network.cpu().eval()
        return network

    def _check_same(self) -> None:
        """Refuse to go on with other frames or another plan: what was trained on could come to be tested on."""
        try:
            found = json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise TrainingError(
                f"{self.folder} holds no training run to resume ({RUN_FILE} is missing or damaged): start the run again without "
                "--resume, with the settings it had"
            ) from error
        # as JSON gives them back
        own = json.loads(json.dumps(self._notes("")))
        changed = [name for name in SAME if found.get(name) != own[name]]
        if changed:
            raise TrainingError(
                f"{self.folder} was begun with another {' and '.join(changed)}: to resume it, give the --architecture, --data, --split, "
                "--seed, --epochs and --samples that it had, or start anew in another --run folder"
            )

    def _initialise(self, network: SmearNetwork) -> str:
        if self.settings.from_scratch:
            return "random (from scratch)"
        return load_pretrained(network, self.settings.weights)

    def _write_run(self, origin: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RUN_FILE).write_text(json.dumps(self._notes(origin)), encoding="utf-8")

    def _notes(self, origin: str) -> dict[str, Any]:
        settings = self.settings
        return {
            "architecture": settings.architecture,
            "initial_weights": origin,
            "seed": settings.seed,
            "from_scratch": settings.from_scratch,
            "weights": str(settings.weights.resolve()) if settings.weights else None,
            "label_smoothing": settings.label_smoothing,
            "weight_decay": settings.weight_decay,
            "plan": [asdict(stage) for stage in settings.plan],
            "kinds": self._kinds,
            "classes": [LABELS[number] for number in self._trained],
            "split": {
                "train": self.split.train.tolist(),
                "calibration": self.split.calibration.tolist(),
                "test": self.split.test.tolist(),
            },
        }

    def _optimizer(self, network: SmearNetwork, stage: Stage) -> torch.optim.AdamW:
        factors = rate_factors(network, stage)
        groups: dict[tuple[float, bool], list[Tensor]] = {}
        for name, parameter in network.named_parameters():
            factor = factors.get(name, 1.0)
            parameter.requires_grad_(factor > 0)
            if factor > 0:
                groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
        return torch.optim.AdamW(
            [
                {
                    "params": members,
                    "factor": factor,
                    "weight_decay": self.settings.weight_decay if decays else 0.0,
                }
                for (factor, decays), members in groups.items()
            ],
            lr=stage.learning_rate,
            betas=(0.9, 0.99),
        )

    def _sampler(self, network: SmearNetwork, stage: Stage) -> FieldSampler | CellSampler:
        kind = CellSampler if stage.sample == "cells" else FieldSampler
        return kind(
            self.store,
            self.split.train,
            size=stage.size,
            augmentation=stage.augmentation,
            preprocessing=network.preprocessing,
            kinds=self._kinds,
        )

    def _epoch(
        self, network: SmearNetwork, optimizer: torch.optim.Optimizer, number: int, epoch: int
    ) -> dict[str, Any]:
        stage = self.settings.plan[number]
        set_training_mode(network, stage)
        started, losses, right, seen = time.monotonic(), [], 0, 0
        per_epoch = stage.samples // stage.batch_size
        batches = prefetched(
            self._sampler(network, stage),
            count=stage.samples,
            batch_size=stage.batch_size,
            seed=(self.settings.seed, number, epoch),
        )
        title = f"{stage.name} {epoch + 1}/{stage.epochs}"
        bar = tqdm(batches, total=per_epoch, desc=title, disable=self._quiet, mininterval=5)
        for position, batch in enumerate(bar):
            step = epoch * per_epoch + position
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(step, stage.steps, stage.learning_rate) * group["factor"]
            loss, correct = self._step(network, optimizer, batch, stage)
            losses.append(loss)
            right, seen = right + correct, seen + len(batch.images)
            if position % 10 == 0:
                bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", right=f"{right / seen:.3f}")
        entry: dict[str, Any] = {
            "stage": stage.name,
            "epoch": epoch + 1,
            "loss": round(float(np.mean(losses)), 4),
            "train_accuracy": round(right / max(1, seen), 4),
            "seconds": round(time.monotonic() - started, 1),
        }
        if stage.sample == "fields" and len(self.split.calibration):
            chosen = self.split.calibration[:: max(1, len(self.split.calibration) // 300)]
            logits, _ = network_outputs(network, self.store, chosen, bf16=self.settings.bf16)
            entry["calibration_accuracy"] = round(
                float((logits.argmax(axis=1) == self.store.labels[chosen]).mean()), 4
            )
        logger.info("epoch %s", entry)
        return entry

    def _step(
        self, network: SmearNetwork, optimizer: torch.optim.Optimizer, batch: Batch, stage: Stage
    ) -> tuple[float, int]:
        images = batch.images.to(self._device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._bf16(network, stage)):
            logits, kinds, _ = network.train_outputs(images)
        logits = logits.float()[:, self._trained]
        if stage.sample == "cells":
            if kinds is None or batch.kinds is None:
                raise TrainingError("crops of cells need cells of known kind, and these frames have none")
            scores = kinds.float().mean(dim=(2, 3))
            wanted = batch.kinds.flatten(1).to(self._device)
            loss = functional.cross_entropy(scores, wanted, label_smoothing=self.settings.label_smoothing)
            correct = int((scores.argmax(1) == wanted.argmax(1)).sum())
        else:
            labels = torch.from_numpy(np.searchsorted(self._trained, batch.labels.numpy())).to(self._device)
            loss = functional.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
            correct = int((logits.argmax(1) == labels).sum())
            if kinds is not None and batch.kinds is not None and stage.kind_weight:
                loss = loss + stage.kind_weight * _place_loss(kinds.float(), batch.kinds.to(self._device))
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} in stage {stage.name}: lower its learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        return float(loss.detach()), correct

    def _bf16(self, network: SmearNetwork, stage: Stage) -> bool:
        """Whether bfloat16 pays: on a CPU, going backward through depthwise convolutions in it is the slower way."""
        depthwise = any(getattr(module, "groups", 1) > 1 for module in network.body.modules())
        return self.settings.bf16 and not (self._device == "cpu" and depthwise and stage.body_rate > 0)


def read_settings(run: Path) -> TrainingSettings:
    """What a run was trained with, to train another in the same way.

    Raises:
        TrainingError: If the folder holds no run, or one of a release that did not note it all.
    """
    try:
        notes = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        plan = tuple(
            Stage(**{**stage, "augmentation": Augmentation(**stage["augmentation"])})
            for stage in notes["plan"]
        )
        return TrainingSettings(
            notes["architecture"],
            plan,
            from_scratch=notes["from_scratch"],
            weights=Path(notes["weights"]) if notes["weights"] else None,
            seed=notes["seed"],
            label_smoothing=notes["label_smoothing"],
            weight_decay=notes["weight_decay"],
        )
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{run} holds no training run whose settings can be read ({type(error).__name__}: {error}): train it with this "
            "release (hemolink model train)"
        ) from error


def trained_classes(store: FrameStore, split: Split) -> NDArray[np.int64]:
    """Numbers of the classes that the training part has, ascending."""
    return np.unique(store.labels[split.train])


def silence(network: SmearNetwork, trained: NDArray[np.int64]) -> None:
    """Give classes that training never shows a logit of -10,000: their probability is 0 in every engine.

    Training looks at the other logits alone, so that these stay as they are set here.
    """
    absent = np.setdiff1d(np.arange(network.head.out_features), trained)
    with torch.no_grad():
        network.head.weight[absent] = 0
        network.head.bias[absent] = ABSENT_LOGIT


def rate_factors(network: SmearNetwork, stage: Stage) -> dict[str, float]:
    """Factor on the learning rate of every parameter of the body, by its name in the network; 0 is frozen."""
    body = network.body
    depths = group_parameters(body, body.group_matcher(coarse=False), reverse=True)
    deepest = max(depths.values())
    factors = {
        f"body.{name}": stage.body_rate * stage.layer_decay ** (DEPTHS * (deepest - depth) / deepest)
        for name, depth in depths.items()
    }
    return {name: factor if factor >= FROZEN_BELOW else 0.0 for name, factor in factors.items()}


def set_training_mode(network: SmearNetwork, stage: Stage) -> None:
    """Training mode, but for batch norm that is to keep its statistics."""
    network.train()
    if stage.frozen_norm or stage.body_rate == 0:
        for module in network.body.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - timm's variants derive from it
                module.eval()


def _place_loss(kinds: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy by place; places with a white cell count fully, empty ones for a quarter."""
    weights = 0.25 + 0.75 * (1 - wanted[:, -1])
    losses = -(wanted * kinds.log_softmax(dim=1)).sum(dim=1)
    return (losses * weights).sum() / weights.sum()


def network_outputs(
    network: SmearNetwork,
    store: FrameStore,
    indices: NDArray[np.int64],
    *,
    batch_size: int = 32,
    bf16: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (N, 5) and features (N, D) of stored frames, without augmentation."""
    device = next(network.parameters()).device
    preprocessing = network.preprocessing
    was_training = network.training
    network.eval()
    logits, features = [], []
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        for first in range(0, len(indices), batch_size):
            chosen = indices[first : first + batch_size].tolist()
            images = np.stack([preprocessing.prepare(store.pixels[index]) for index in chosen])
            batch = torch.from_numpy(images).to(device).contiguous(memory_format=torch.channels_last)
            answer = network(batch)
            logits.append(answer[0].float().cpu().numpy())
            features.append(answer[1].float().cpu().numpy())
            if progress is not None:
                progress(len(chosen))
    network.train(was_training)
    return np.concatenate(logits), np.concatenate(features)
