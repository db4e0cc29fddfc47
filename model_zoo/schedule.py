"""Training plans: a few stages, each with its input, size, length and learning rate."""

import math
from dataclasses import dataclass, field
from typing import Literal

from model_zoo.augmentation import Augmentation


@dataclass(frozen=True)
class Stage:
    """One stage of training, a one-cycle of the learning rate.

    Attributes:
        name: For the log.
        sample: Whole `fields`, or crops of single `cells`.
        size: Side of the input in pixels, a multiple of 32.
        epochs: How many.
        samples: Images an epoch.
        batch_size: Images a step.
        learning_rate: Peak of the cycle.
        body_rate: Factor on it for the network's body; small where the body is pre-trained, 0 freezes it.
        kind_weight: Weight of the auxiliary loss on whole fields.
        augmentation: How strongly to vary.
    """

    name: str
    sample: Literal["fields", "cells"]
    size: int
    epochs: int
    samples: int
    batch_size: int
    learning_rate: float
    body_rate: float = 1.0
    kind_weight: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole stage."""
        return self.epochs * (self.samples // self.batch_size)


def one_cycle(step: int, steps: int, peak: float, *, warm: float = 0.15, floor: float = 1e-3) -> float:
    """Learning rate at a step: cosine up from a tenth over the first part, cosine down after (Smith and Topin 2018)."""
    top = warm * steps
    if step < top:
        return peak * (0.1 + 0.9 * (1 - math.cos(math.pi * step / top)) / 2)
    rest = (step - top) / max(1.0, steps - top)
    return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * min(rest, 1.0))) / 2)


def default_plan(*, frames: int, cells: bool, pretrained: bool, epochs: int = 10) -> list[Stage]:
    """A plan that suits the data.

    With cells of known kind (simulated frames), the body first learns single cells on small crops, at a twelfth of the
    cost of a whole field, and then fields. With pre-trained weights, the head comes first, then all, the body more
    slowly. Otherwise the size grows.

    Args:
        frames: Frames of the training part.
        cells: Whether white cells of known kind are marked.
        pretrained: Whether the body starts from pre-trained weights.
        epochs: Passes over whole fields, at full size.
    """
    batch = 16 if frames < 2000 else 24  # noqa: PLR2004
    batch = min(batch, max(2, frames))
    if pretrained:
        return [
            Stage("head", "fields", 224, 1, frames, batch, 3e-3, body_rate=0.0),
            Stage(
                "all",
                "fields",
                224,
                epochs,
                frames,
                batch,
                1e-3,
                body_rate=0.1,
                kind_weight=0.3 if cells else 0.0,
            ),
        ]
    if cells:
        crops = Augmentation(shift=0.1)
        per_epoch = max(512, min(12_000, frames * 4))
        return [
            Stage("cells", "cells", 64, 10, per_epoch, 64, 2e-3, augmentation=crops),
            Stage("fields", "fields", 224, max(1, epochs // 3), frames, batch, 7e-4, kind_weight=0.5),
        ]
    return [
        Stage("small", "fields", 128, epochs, frames, batch, 2e-3),
        Stage("full", "fields", 224, max(1, epochs // 4), frames, batch, 5e-4),
    ]
