"""Made images: a small conditional GAN that learns from the training groups alone. Each carries the mark MADE.

Generator and critic after Radford et al. 2016 (DCGAN), the class by a projection (Miyato and Koyama 2018), spectral norm
and hinge loss (Miyato et al. 2018), the same random changes to real and made images (Zhao et al. 2020). 64 x 64 pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from model_zoo.errors import DatasetError, TrainingError
from model_zoo.labels import LABELS
from model_zoo.study.originals import Originals
from model_zoo.study.plan import Plan

MADE: Final = "MADE"
SIDE: Final = 64
GENERATOR_FILE: Final = "generator-MADE.safetensors"
_NOISE: Final = 96
_CHANNELS: Final = (128, 64, 32, 16)
_BATCH: Final = 24
_KEEP: Final = 0.998


@dataclass(frozen=True)
class MadeImages:
    """Images that a generator made.

    Attributes:
        pixels: (N, 64, 64, 3) uint8 BGR.
        labels: (N,) the class that each was asked for.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def resized(self, size: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Each image at another size, with its class, for training."""
        for image, label in zip(self.pixels, self.labels.tolist(), strict=True):
            yield np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8), label

    def sheet(self, *, columns: int = 12, scale: int = 2) -> NDArray[np.uint8]:
        """A few images of each class as one picture (H, W, 3), the mark MADE burnt into each."""
        rows = []
        for label in np.unique(self.labels).tolist():
            tiles = [
                marked(
                    cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), LABELS[label]
                )
                for image in self.pixels[self.labels == label][:columns]
            ]
            blank = np.full_like(tiles[0], 255)
            rows.append(np.concatenate(tiles + [blank] * (columns - len(tiles)), axis=1))
        return np.concatenate(rows, axis=0)


def marked(image: NDArray[np.uint8], label: str) -> NDArray[np.uint8]:
    """A copy of a BGR image with the mark MADE and its class burnt in."""
    copy = np.ascontiguousarray(image)
    for thickness, colour in ((3, (255, 255, 255)), (1, (140, 20, 120))):
        cv2.putText(
            copy, f"{MADE} {label}", (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, thickness, cv2.LINE_AA
        )
    return copy


def training_only(plan: Plan, originals: Originals) -> NDArray[np.int64]:
    """The originals that a generator may learn from: those of training groups.

    Raises:
        DatasetError: If the plan tests copies of what it trains on, or a tested group is among those in training; a
            generator would carry the tested images over.
    """
    if plan.protocol != "honest":
        raise DatasetError(
            f"no images are made for the protocol {plan.protocol}: its tested images have siblings in training, and a "
            "generator would learn them; use --protocol honest"
        )
    learnt = np.unique(plan.origin[plan.train])
    held = np.unique(originals.groups[plan.origin[plan.test]])
    if np.isin(originals.groups[learnt], held).any():
        raise DatasetError("a tested group is in the training part: a generator must not see it")
    return learnt


class Generator(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Noise (N, 96) and classes (N,) to images (N, 3, 64, 64) of -1..1."""

    def __init__(self) -> None:
        super().__init__()
        self.names = nn.Embedding(len(LABELS), 32)
        self.first = nn.Linear(_NOISE + 32, _CHANNELS[0] * 16)
        blocks: list[nn.Module] = []
        for before, after in pairwise(_CHANNELS):
            blocks += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(
            *blocks, nn.Upsample(scale_factor=2), nn.Conv2d(_CHANNELS[-1], 3, 3, padding=1), nn.Tanh()
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Make images."""
        start = self.first(torch.cat([noise, self.names(labels)], dim=1))
        return self.body(functional.relu(start).unflatten(1, (_CHANNELS[0], 4, 4)))


class Critic(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """Images (N, 3, 64, 64) and classes (N,) to scores (N,): high for real ones of the class."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *reversed(_CHANNELS))
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*blocks)
        self.score = spectral_norm(nn.Linear(_CHANNELS[0], 1))
        self.names = spectral_norm(nn.Embedding(len(LABELS), _CHANNELS[0]))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Score images."""
        pooled = self.body(images).mean(dim=(2, 3))
        return self.score(pooled)[:, 0] + (pooled * self.names(labels)).sum(dim=1)


def make_images(
    plan: Plan,
    originals: Originals,
    count: int,
    *,
    steps: int,
    seed: int,
    folder: Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> MadeImages:
    """Train a generator on the training groups of a plan, and make images, all classes in equal shares.

    A generator that is already in the folder is used as it is.

    Args:
        plan: An honest one.
        originals: The images; only those of the plan's training part are looked at.
        count: How many images to make.
        steps: Of training.
        seed: Of all chance.
        folder: Where the generator is kept.
        progress: Told of each step.

    Raises:
        DatasetError: If the plan is not honest, or a tested group is in its training part.
        TrainingError: If the training fails.
    """
    learnt = training_only(plan, originals)
    generator = Generator()
    path = folder / GENERATOR_FILE
    if path.is_file():
        generator.load_state_dict(load_file(path))
    else:
        generator = _trained(originals, learnt, steps=steps, seed=seed, progress=progress)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in generator.state_dict().items()}, path)
    present = np.unique(originals.labels[learnt])
    labels = present[np.arange(count) % len(present)]
    chance = torch.Generator().manual_seed(seed)
    generator.eval()
    made = []
    with torch.inference_mode():
        for first in range(0, count, 64):
            own = torch.from_numpy(labels[first : first + 64])
            images = generator(torch.randn(len(own), _NOISE, generator=chance), own)
            made.append(
                ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
            )
    return MadeImages(np.ascontiguousarray(np.concatenate(made)), labels.astype(np.int64))


def _trained(
    originals: Originals,
    learnt: NDArray[np.int64],
    *,
    steps: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> Generator:
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 14])
    small = np.stack(
        [cv2.resize(originals.pixels[i], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for i in learnt.tolist()]
    )
    images = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = originals.labels[learnt]
    present = np.unique(labels)
    members = [np.flatnonzero(labels == number) for number in present.tolist()]
    generator, critic = Generator(), Critic()
    average = Generator()
    average.load_state_dict(generator.state_dict())
    makes = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.0, 0.9))
    judges = torch.optim.Adam(critic.parameters(), lr=4e-4, betas=(0.0, 0.9))
    for step in range(steps):
        which = rng.integers(0, len(present), _BATCH)
        chosen = np.asarray([rng.choice(members[number]) for number in which.tolist()])
        own = torch.from_numpy(present[which])
        real = _turned(images[torch.from_numpy(chosen)], rng)
        fake = generator(torch.randn(_BATCH, _NOISE), own)
        loss = (
            functional.relu(1 - critic(_changed(real), own)).mean()
            + functional.relu(1 + critic(_changed(fake.detach()), own)).mean()
        )
        judges.zero_grad(set_to_none=True)
        loss.backward()
        judges.step()
        deceit = -critic(_changed(fake), own).mean()
        makes.zero_grad(set_to_none=True)
        deceit.backward()
        makes.step()
        if not torch.isfinite(loss + deceit):
            raise TrainingError(f"the generator's loss is not finite at step {step}: choose another --seed")
        _follow(average, generator)
        if progress is not None:
            progress(f"Learning to make images ({MADE})", step + 1, steps)
    return average


def _follow(average: Generator, generator: Generator) -> None:
    own = generator.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point() and "running" not in name:
            value.lerp_(own[name], 1 - _KEEP)
        else:
            value.copy_(own[name])


def _turned(images: Tensor, rng: np.random.Generator) -> Tensor:
    """A batch turned by a quarter or mirrored: smears have no up and down."""
    turned = torch.rot90(images, int(rng.integers(0, 4)), (2, 3))
    return turned.flip(3) if rng.random() < 0.5 else turned  # noqa: PLR2004


def _changed(images: Tensor) -> Tensor:
    """Random brightness and shift, differentiable; the critic sees real and made images only so."""
    count = len(images)
    images = images + (torch.rand(count, 1, 1, 1) - 0.5) * 0.4
    across, down = (torch.randint(-8, 9, (count,)) for _ in range(2))
    grid_y = (torch.arange(SIDE)[None, :] + down[:, None]).clamp(0, SIDE - 1)
    grid_x = (torch.arange(SIDE)[None, :] + across[:, None]).clamp(0, SIDE - 1)
    batch = torch.arange(count)[:, None, None]
    return images.permute(0, 2, 3, 1)[batch, grid_y[:, :, None], grid_x[:, None, :]].permute(0, 3, 1, 2)
