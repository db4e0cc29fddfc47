"""Distillation: a network learns another's features, where pre-trained weights of its own cannot be had.

Romero et al. 2015 (FitNets), with the pooled features instead of maps, since the two networks' maps differ. Both see the
same varied view of a frame; the student's pooled features go through a linear layer, which is thrown away afterwards, and
are to meet the teacher's. No label is used: frames without one, and simulated ones, serve as well.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from model_zoo.architecture import SmearNetwork
from model_zoo.augmentation import Augmentation
from model_zoo.errors import TrainingError
from model_zoo.preprocessing import Preprocessing
from model_zoo.sampling import FieldSampler, prefetched
from model_zoo.schedule import one_cycle
from model_zoo.store import FrameStore

logger = logging.getLogger(__name__)

FARTHEST: Final = 4.0
"""Deviations from the mean beyond which a feature's value makes no difference."""
NEUTRAL: Final = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
"""The sampler's frames in 0..1; each network normalises them in its own way."""


@dataclass(frozen=True)
class DistillationSettings:
    """How the student learns.

    Attributes:
        epochs: How many.
        samples: Frames an epoch.
        size: Side of the input in pixels, a multiple of 32.
        batch_size: Frames a step.
        learning_rate: Peak of the one cycle.
        weight_decay: Of AdamW, on matrices and kernels only.
        seed: Of weights, order and augmentation.
    """

    epochs: int = 6
    samples: int = 3200
    size: int = 128
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    seed: int = 0


def distil(
    teacher: SmearNetwork,
    student: SmearNetwork,
    store: FrameStore,
    indices: NDArray[np.int64],
    *,
    settings: DistillationSettings,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Teach a network's body another's pooled features, in place.

    Args:
        teacher: Left as it is.
        student: Whose body learns.
        store: Frames, labelled or not.
        indices: Of those that may be seen.
        settings: How.
        report: Called after every epoch with its entry.

    Returns:
        One entry an epoch: loss (1 is as good as the mean), share of the features' variance explained, seconds.

    Raises:
        TrainingError: If there are no frames, or the loss is no longer finite.
    """
    if len(indices) < settings.batch_size:
        raise TrainingError(
            f"{len(indices)} frames are too few to distil from: give {settings.batch_size} or more"
        )
    torch.manual_seed(settings.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher.to(device, memory_format=torch.channels_last).eval()
    student.to(device, memory_format=torch.channels_last).train()
    width = student.head.in_features
    # features of mean 0: in a common offset of 512 of them, a small step of the linear layer would be a large one
    translator = nn.Sequential(
        nn.BatchNorm1d(width, affine=False), nn.Linear(width, teacher.head.in_features)
    ).to(device)
    nn.init.zeros_(translator[1].weight)  # the first answer is the mean
    sampler = FieldSampler(
        store,
        indices,
        size=settings.size,
        augmentation=Augmentation(exchange=0.3),
        preprocessing=NEUTRAL,
        kinds=[],
    )
    centre, spread = _moments(teacher, sampler, settings, device)
    optimizer = _optimizer(student, translator, settings)
    per_epoch = settings.samples // settings.batch_size
    history = []
    for epoch in range(settings.epochs):
        started, losses = time.monotonic(), []
        batches = prefetched(
            sampler,
            count=settings.samples,
            batch_size=settings.batch_size,
            seed=(settings.seed, 1, epoch),
        )
        for position, batch in enumerate(batches):
            rate = one_cycle(
                epoch * per_epoch + position, settings.epochs * per_epoch, settings.learning_rate
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            images = batch.images.to(device)
            wanted = ((_features(teacher, images) - centre) / spread).clamp(-FARTHEST, FARTHEST)
            with torch.autocast(device, dtype=torch.bfloat16):
                _, _, pooled = student.train_outputs(_normalised(student, images))
            loss = functional.mse_loss(translator(pooled.float()), wanted)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss.item()} in epoch {epoch + 1}: lower the learning rate"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
            optimizer.step()
            losses.append(float(loss.detach()))
        entry: dict[str, Any] = {
            "epoch": epoch + 1,
            "loss": round(float(np.mean(losses)), 4),
            "explained": round(1 - float(np.mean(losses)), 4),
            "seconds": round(time.monotonic() - started, 1),
        }
        history.append(entry)
        logger.info("distilled %s", entry)
        if report is not None:
            report(entry)
    student.cpu().eval()
    return history


def save_body(network: SmearNetwork, path: Path, *, origin: str) -> None:
    """Write a body with timm's tensor names, for `hemolink model train --weights`.

    Args:
        network: Whose body.
        path: Of the safetensors file; an old one stays whole until the new one is.
        origin: What the card of a model that starts from it is to say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    tensors = {name: value.contiguous() for name, value in network.body.state_dict().items()}
    save_file(tensors, partial, metadata={"origin": origin})
    partial.replace(path)


def _optimizer(
    student: SmearNetwork, translator: nn.Module, settings: DistillationSettings
) -> torch.optim.AdamW:
    parameters = [*student.body.parameters(), *translator.parameters()]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.99),
    )


def _normalised(network: SmearNetwork, images: Tensor) -> Tensor:
    mean = torch.tensor(network.entry.mean, device=images.device)[:, None, None]
    std = torch.tensor(network.entry.std, device=images.device)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _features(teacher: SmearNetwork, images: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast(images.device.type, dtype=torch.bfloat16):
        return teacher.train_outputs(_normalised(teacher, images))[2].float()


def _moments(
    teacher: SmearNetwork, sampler: FieldSampler, settings: DistillationSettings, device: str
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the teacher's features, from a few batches."""
    count = min(settings.samples, 16 * settings.batch_size)
    batches = prefetched(sampler, count=count, batch_size=settings.batch_size, seed=(settings.seed, 0, 0))
    found = torch.cat([_features(teacher, batch.images.to(device)) for batch in batches])
    deviation = found.std(dim=0)
    # a feature that is nearly always off must not outweigh the others when it is on
    return found.mean(dim=0), deviation + 0.25 * deviation.mean()
