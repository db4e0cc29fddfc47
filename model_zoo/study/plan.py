"""Who is trained on and who is tested on: copies dealt to both sides at random, or whole groups first."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.split import class_name
from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS
from model_zoo.study.recipe import Recipe

Protocol = Literal["as-published", "honest"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("as-published", "honest")
WORDS: Final[dict[str, str]] = {
    "as-published": "augment, then split 80/20 at random",
    "honest": "split 80/20 by group, then augment the training part",
}
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Images and copies of them, and the side of the split that each is on.

    Attributes:
        protocol: How they were dealt.
        origin: (M,) the original that each is, or is a copy of.
        copy: (M,) 0 for the original itself, else the copy's number.
        train: Entries to train on.
        test: Entries to test on.
    """

    protocol: Protocol
    origin: Integers
    copy: Integers
    train: Integers
    test: Integers

    def siblings(self) -> float:
        """Share of the tested entries of whose original some other copy is trained on."""
        return float(np.isin(self.origin[self.test], self.origin[self.train]).mean())


def wanted(labels: Integers, recipe: Recipe) -> dict[int, int]:
    """Entries of each class present: the study's, in proportion where there are fewer or more originals than it had."""
    found = {}
    for number in np.unique(labels).tolist():
        name, count = LABELS[number], int((labels == number).sum())
        found[number] = max(count, round(recipe.augmented[name] * count / recipe.originals[name]))
    return found


def make_plan(
    protocol: Protocol,
    labels: Integers,
    groups: Integers,
    *,
    recipe: Recipe,
    seed: int,
    copies: dict[int, int] | None = None,
    by_class: bool = True,
) -> Plan:
    """Deal copies.

    Args:
        protocol: `as-published` or `honest`.
        labels: (N,) class of every original.
        groups: (N,) group of every original; `as-published` does not look at it.
        recipe: For counts and the share to test.
        seed: Of the deal.
        copies: Entries wanted of each class; the recipe's if None.
        by_class: Deal groups class by class; False where labels are random, which folds must not know.

    Raises:
        DatasetError: If there is one class only, or a class has a single group.
    """
    present = np.unique(labels)
    if len(present) < 2:  # noqa: PLR2004
        raise DatasetError(f"there is one class only, {class_name(int(present[0]))}: add images of another")
    totals = copies or wanted(labels, recipe)
    origin, copy = _entries(labels, totals)
    rng = np.random.default_rng([seed, 11])
    if protocol == "as-published":
        test = _random_test(labels[origin], recipe.test_share, rng)
        return Plan(protocol, origin, copy, np.setdiff1d(np.arange(len(origin)), test), test)
    tested = _tested_groups(labels, groups, recipe.test_share, rng, by_class=by_class)
    held = np.isin(groups[origin], tested)
    return Plan(protocol, origin, copy, np.flatnonzero(~held), np.flatnonzero(held & (copy == 0)))


def _entries(labels: Integers, totals: dict[int, int]) -> tuple[Integers, Integers]:
    """Every original, followed by its copies."""
    times = np.ones(len(labels), np.int64)
    for number, total in totals.items():
        own = np.flatnonzero(labels == number)
        each, more = divmod(total, len(own))
        times[own] = each
        times[own[:more]] += 1
    origin = np.repeat(np.arange(len(labels)), times)
    starts = np.concatenate([[0], np.cumsum(times)[:-1]])
    return origin, np.arange(len(origin)) - np.repeat(starts, times)


def _random_test(labels: Integers, share: float, rng: np.random.Generator) -> Integers:
    chosen = []
    for number in np.unique(labels).tolist():
        own = rng.permutation(np.flatnonzero(labels == number))
        chosen.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(chosen))


def _tested_groups(
    labels: Integers, groups: Integers, share: float, rng: np.random.Generator, *, by_class: bool
) -> Integers:
    """Groups to hold out; a group counts as the class that most of its images have."""
    names = np.unique(groups)
    own = np.asarray([np.bincount(labels[groups == group]).argmax() for group in names])
    strata = own if by_class else np.zeros(len(names), np.int64)
    chosen = []
    for number in np.unique(strata).tolist():
        members = rng.permutation(names[strata == number])
        if len(members) < 2:  # noqa: PLR2004
            raise DatasetError(
                f"class {class_name(number)} has a single group, and a split needs one on each side: add patients, or "
                "leave the class out"
            )
        chosen.append(members[: max(1, round(share * len(members)))])
    return np.concatenate(chosen)
