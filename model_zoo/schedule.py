"""Training plans: a few stages, each with its input, size, length and learning rate."""

import math
from dataclasses import dataclass, field, replace
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
        layer_decay: Further factor on the body's rate for every sixteenth of its depth farther from the head; below a
            hundredth of the head's rate a layer is frozen.
        frozen_norm: Keep the body's batch norm statistics as they came: a few hundred frames of a few laboratories are
            no better estimate of them, and frames of another laboratory would be normalised by these.
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
    layer_decay: float = 1.0
    frozen_norm: bool = False
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


def plan_stages(
    *,
    cells: bool,
    pretrained: bool,
    epochs: int,
    samples: int,
    cell_epochs: int = 10,
    cell_samples: int = 10_240,
    sources: int = 1,
) -> list[Stage]:
    """A plan that suits the data.

    With pre-trained weights, the head comes first, then all: the body more slowly, and its layers the more slowly the
    farther from the head they are; batch norm keeps its statistics. From scratch, with cells of known
    kind (simulated frames), the body first learns single cells on small crops, at a twelfth of the cost of a whole
    field, and then fields; without, the size of the input grows.

    Args:
        cells: Whether white cells of known kind are marked.
        pretrained: Whether the body starts from pre-trained weights.
        epochs: Epochs over whole fields at full size.
        samples: Fields an epoch.
        cell_epochs: Epochs over crops of single cells.
        cell_samples: Crops an epoch.
        sources: How many laboratories the frames come from; with several, frames also swap stains.
    """
    batch = min(16, samples)
    kind_weight = 0.5 if cells else 0.0
    varied = Augmentation(exchange=0.4 if sources > 1 else 0.0)
    if pretrained:
        head = Stage(
            "head",
            "fields",
            size=224,
            epochs=1,
            samples=samples,
            batch_size=batch,
            learning_rate=3e-3,
            body_rate=0.0,
            frozen_norm=True,
            kind_weight=kind_weight,
            augmentation=varied,
        )
        everything = replace(
            head, name="all", epochs=epochs, learning_rate=1e-3, body_rate=0.2, layer_decay=0.6
        )
        return [head, everything]
    full = Stage(
        "fields", "fields", 224, epochs, samples, batch, 7e-4, kind_weight=kind_weight, augmentation=varied
    )
    if cells and cell_epochs:
        crops = Augmentation(shift=0.1)
        size = min(64, cell_samples)
        return [Stage("cells", "cells", 64, cell_epochs, cell_samples, size, 2e-3, augmentation=crops), full]
    return [Stage("small", "fields", 128, 2 * epochs, samples, batch, 2e-3, augmentation=varied), full]
