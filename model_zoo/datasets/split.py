"""Splits by patient group, stratified by class; a split that divides a group is refused, and a kept one is sealed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.manifest import ManifestRow, patient_groups
from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS

PARTS: Final = ("train", "calibration", "test")
SCHEMA: Final = 1


@dataclass(frozen=True)
class Split:
    """Indices of the images of each part, each (n,) int64, in ascending order."""

    train: NDArray[np.int64]
    calibration: NDArray[np.int64]
    test: NDArray[np.int64]

    def check(self, groups: NDArray[np.int64]) -> None:
        """Refuse a split that divides a group or uses an image twice.

        Args:
            groups: (N,) group number of every image.

        Raises:
            DatasetError: If a group has images in two parts, or an image is in two parts.
        """
        owner: dict[int, str] = {}
        for part in PARTS:
            for group in np.unique(groups[getattr(self, part)]).tolist():
                if group in owner:
                    raise DatasetError(
                        f"the split divides patient group {group} between {owner[group]} and {part}: "
                        "split by group, or the figures measure memory"
                    )
                owner[group] = part


def split_by_group(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    sources: Sequence[str] | None = None,
) -> Split:
    """Deal whole groups to train, calibration and test, class by class, and within a class source by source.

    A group counts as the class that most of its images have, and as its first image's source.

    Args:
        labels: (N,) class number of every image.
        groups: (N,) group number of every image.
        fractions: Share of the groups of every class for train, calibration and test; they sum to 1.
        seed: Of the shuffle.
        sources: (N,) where every image comes from; a class's sources with fewer than three groups are dealt together.

    Raises:
        DatasetError: If the fractions do not sum to 1, there is one class only, or a class has fewer than three groups.
    """
    if abs(sum(fractions) - 1) > 1e-6 or min(fractions) < 0:  # noqa: PLR2004
        raise DatasetError(f"the fractions {fractions} must be positive and sum to 1")
    rng = np.random.default_rng(seed)
    part_of: dict[int, int] = {}
    majority = {int(g): int(np.bincount(labels[groups == g]).argmax()) for g in np.unique(groups)}
    classes = sorted(set(majority.values()))
    if len(classes) == 1:
        raise DatasetError(
            f"there is one class only, {class_name(classes[0])} ({len(labels)} images): a classifier needs two; add "
            "images of another"
        )
    for label in classes:
        members = np.asarray([g for g, own in majority.items() if own == label])
        if len(members) < len(PARTS):
            raise DatasetError(
                f"class {class_name(label)} has {len(members)} patient group(s), and a split needs one in each of "
                f"{', '.join(PARTS)}: add patients"
            )
        rng.shuffle(members)
        for stratum in _strata(members, groups, sources):
            calibration = max(1, round(fractions[1] * len(stratum)))
            test = max(1, round(fractions[2] * len(stratum)))
            for position, group in enumerate(stratum):
                part_of[group] = 1 if position < calibration else 2 if position < calibration + test else 0
    parts = np.asarray([part_of[int(group)] for group in groups])
    split = Split(*(np.flatnonzero(parts == number) for number in range(3)))
    split.check(groups)
    return split


def _strata(
    members: NDArray[np.int64], groups: NDArray[np.int64], sources: Sequence[str] | None
) -> list[list[int]]:
    """Groups of one class by their source, those of sources with too few for three parts together."""
    if sources is None:
        return [members.tolist()]
    first = {int(group): index for index, group in reversed(list(enumerate(groups.tolist())))}
    found: dict[str, list[int]] = {}
    for group in members.tolist():
        found.setdefault(sources[first[group]], []).append(group)
    large = [own for _, own in sorted(found.items()) if len(own) >= len(PARTS)]
    small = [group for _, own in sorted(found.items()) if len(own) < len(PARTS) for group in own]
    if small and (len(small) >= len(PARTS) or not large):
        large.append(small)
    elif small:
        large[0] += small
    return large


def class_name(number: int) -> str:
    """A class by name, for messages."""
    return LABELS[number] if number < len(LABELS) else str(number)


def write_split(
    path: Path,
    rows: Sequence[ManifestRow],
    split: Split,
    *,
    seed: int,
    fractions: tuple[float, float, float],
) -> str:
    """Write a split of a manifest and seal it with a hash.

    Args:
        path: Of the file.
        rows: The manifest's labelled rows, each with its SHA-256.
        split: Indices of the rows.
        seed: Of the shuffle, for the record.
        fractions: As asked for, for the record.

    Returns:
        The seal, to be quoted beside any figure that was made with the split.
    """
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "manifest": manifest_hash(rows),
        "seed": seed,
        "fractions": list(fractions),
        "parts": {part: sorted({rows[i].sha256 for i in getattr(split, part).tolist()}) for part in PARTS},
    }
    seal = _seal(content)
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps({**content, "seal": seal}, indent=1), encoding="utf-8")
    partial.replace(path)
    return seal


def read_split(path: Path, rows: Sequence[ManifestRow]) -> tuple[Split, str]:
    """Read a sealed split of a manifest.

    Returns:
        The split, and its seal.

    Raises:
        DatasetError: If it is missing, was changed after it was sealed, is of another manifest, leaves an image out, or
            divides a group.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        seal, parts = content.pop("seal"), content["parts"]
        owner = {sha256: part for part in PARTS for sha256 in parts[part]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} is no split ({type(error).__name__}: {error}): make one with hemolink model manifest --split"
        ) from error
    if _seal(content) != seal:
        raise DatasetError(
            f"{path} was changed after it was sealed ({seal[:12]}): figures made with it cannot be compared; make "
            "the split again with its seed"
        )
    if content["manifest"] != manifest_hash(rows):
        raise DatasetError(
            f"{path} is the split of another manifest: images, labels or groups differ; split this one anew"
        )
    numbers = np.asarray([PARTS.index(owner[row.sha256]) if row.sha256 in owner else -1 for row in rows])
    if (numbers < 0).any():
        raise DatasetError(f"{path} leaves out {int((numbers < 0).sum())} images: split the manifest anew")
    split = Split(*(np.flatnonzero(numbers == number) for number in range(3)))
    _check_undivided(path, rows, split)
    return split, seal


def _check_undivided(path: Path, rows: Sequence[ManifestRow], split: Split) -> None:
    """As `Split.check`, with the images by name."""
    groups = patient_groups(rows)
    first: dict[int, tuple[str, int]] = {}
    for part in PARTS:
        for index in getattr(split, part).tolist():
            owner, other = first.setdefault(int(groups[index]), (part, index))
            if owner != part:
                raise DatasetError(
                    f"{path} divides a patient group: {rows[other].path.name} is in {owner} and {rows[index].path.name} in {part}, and "
                    "they belong together (one patient, parent, group or picture); make the split anew with hemolink model "
                    "manifest --split, or the figures measure memory"
                )


def manifest_hash(rows: Sequence[ManifestRow]) -> str:
    """Hash of what a manifest says of its labelled images, whatever their order and place.

    Raises:
        DatasetError: If a row has no SHA-256.
    """
    bare = next((row.path for row in rows if not row.sha256), None)
    if bare is not None:
        raise DatasetError(f"{bare} has no SHA-256 in the manifest: write it with hemolink model manifest")
    names = patient_groups(rows)
    first: dict[int, str] = {}
    for row, group in zip(rows, names.tolist(), strict=True):
        first[group] = min(first.get(group, row.sha256), row.sha256)
    lines = sorted(
        f"{row.sha256} {row.label} {row.source} {first[group]}"
        for row, group in zip(rows, names.tolist(), strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
