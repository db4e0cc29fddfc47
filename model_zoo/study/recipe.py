"""A recipe: everything that a protocol does, as data."""

from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_zoo.architecture import ARCHITECTURES
from model_zoo.augmentation import Augmentation
from model_zoo.errors import TrainingError
from model_zoo.labels import LABELS
from model_zoo.schedule import Stage
from model_zoo.study.published import PUBLISHED

UNCHANGED: Final = Augmentation(
    rotation=0, shift=0, zoom=0, shear=0, flip=0, stain=0, photometric=0, untouched=0
)
"""Copies are made before training; in training nothing is varied again."""

OTHERS: Final = "resnet34"
"""The recipe for networks that the study did not have."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Geometry(_Part):
    """The study's six transforms; every field a half-range or a probability."""

    rotation: float = Field(ge=0, le=180, description="Degrees either way.")
    shift: float = Field(ge=0, le=0.5, description="Share of the side, by width and by height.")
    zoom: float = Field(ge=0, lt=1, description="Share either way.")
    shear: float = Field(ge=0, lt=45, description="Degrees either way.")
    flip: float = Field(ge=0, le=1, description="Probability of a horizontal flip.")

    @cached_property
    def augmentation(self) -> Augmentation:
        """As the augmentation that draws them, without any change of colour."""
        return Augmentation(**self.model_dump(), stain=0, photometric=0, untouched=0)


class Recipe(_Part):
    """A network, how long it trains, on how many images, and how copies of them are made."""

    architecture: str = Field(description="A network that `SmearNetwork` knows.")
    batches: int = Field(ge=1, description="Optimiser steps in all.")
    batch_size: int = Field(ge=2, description="Images a step.")
    epochs: int = Field(ge=1, description="Points of the loss curve.")
    size: int = Field(ge=32, multiple_of=32, description="Side of the input in pixels.")
    learning_rate: float = Field(gt=0, description="Peak of the cycle.")
    body_rate: float = Field(ge=0, le=1, description="Factor on it for a pre-trained body.")
    head_share: float = Field(ge=0, lt=1, description="Share of batches for the head alone, if pre-trained.")
    test_share: float = Field(gt=0, lt=1, description="Of the images, or of the groups, to test on.")
    originals: dict[str, int] = Field(description="Images of each class before augmentation.")
    augmented: dict[str, int] = Field(description="Images of each class after it, originals included.")
    augmentation: Geometry

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        for name in ("originals", "augmented"):
            if set(getattr(self, name)) != set(LABELS):
                raise ValueError(f"{name} must give a count for each of {', '.join(LABELS)}")
        short = [label for label in LABELS if self.augmented[label] < self.originals[label]]
        if short or min(self.originals.values()) < 1:
            raise ValueError(
                f"augmented must not be less than originals, and those not less than 1 ({short})"
            )
        return self

    def stages(self, *, pretrained: bool) -> tuple[Stage, ...]:
        """The plan of training: all at once from scratch; with pre-trained weights the head first."""
        epochs = min(self.epochs, self.batches)
        first = min(epochs - 1, round(self.head_share * epochs)) if pretrained else 0
        rate = self.body_rate if pretrained else 1.0
        each = self.batches // epochs
        stages = [self._stage("all", epochs - first, self.batches - first * each, body_rate=rate)]
        if first:
            stages.insert(0, self._stage("head", first, first * each, body_rate=0.0))
        return tuple(stages)

    def _stage(self, name: Literal["head", "all"], epochs: int, batches: int, *, body_rate: float) -> Stage:
        return Stage(
            name,
            "fields",
            self.size,
            epochs,
            samples=(batches // epochs) * self.batch_size,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            body_rate=body_rate,
            augmentation=UNCHANGED,
        )


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe that comes with the software, by its network's name, or one from a file.

    A network that the study did not have is trained by the recipe of its ResNet-34.

    Raises:
        TrainingError: If there is no such network or file, or a line of it is not valid.
    """
    if isinstance(name, Path):
        return _checked(name, where=str(name))
    if name not in ARCHITECTURES:
        raise TrainingError(f"unknown architecture {name!r}: choose one of {', '.join(ARCHITECTURES)}")
    own = name if name in PUBLISHED else OTHERS
    source = files(__package__).joinpath("recipes", f"{own}.yaml")
    return _checked(source, where=f"recipe {own}").model_copy(update={"architecture": name})


def _checked(source: Path | Traversable, *, where: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except OSError as error:
        raise TrainingError(f"{where} cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise TrainingError(f"{where} is no YAML ({str(error).splitlines()[0]})") from error
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}" for fault in error.errors()
        )
        raise TrainingError(f"{where} is not valid: {said}") from error
    if recipe.architecture not in ARCHITECTURES:
        raise TrainingError(
            f"{where}: unknown architecture {recipe.architecture!r}: choose one of {', '.join(ARCHITECTURES)}"
        )
    return recipe
