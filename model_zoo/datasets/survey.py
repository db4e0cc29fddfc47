"""A survey of image files: what they are, what is wrong with them, and which of them belong together."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.crops import FieldIndex
from model_zoo.datasets.fingerprint import Fingerprint, fingerprint
from model_zoo.datasets.layout import CROPS, FIELDS, Listed
from model_zoo.datasets.likeness import Likeness, alike
from model_zoo.datasets.manifest import looks_augmented
from model_zoo.datasets.picture import ModeError, read_picture
from model_zoo.datasets.ties import Tie, chained, united
from model_zoo.datasets.vocabulary import Vocabulary
from model_zoo.errors import DatasetError, ImageError

Progress = Callable[[str, int, int], None]
"""Called with what is going on, how much of it is done, and how much there is."""

AUGMENTED: Final = "augmented copy"
CONFLICT: Final = "one picture, two labels"
CHANGED: Final = "changed"
MISMATCH: Final = "subtype of another label"


@dataclass(frozen=True)
class LeftOut:
    """A file that the manifest will not list.

    Attributes:
        path: The file.
        reason: In one word or two: unreadable, grey, alpha, 16-bit, float, augmented copy, ...
        message: The whole sentence.
    """

    path: Path
    reason: str
    message: str


@dataclass(frozen=True)
class Surveyed:
    """An image that can be used.

    Attributes:
        listed: As its layout names it.
        label: A label of the model, or empty.
        subtype: Where one is known.
        print: Its fingerprint.
        known_subtype: Whether the label tree knows the subtype; it teaches the label only otherwise.
    """

    listed: Listed
    label: str
    subtype: str
    print: Fingerprint
    known_subtype: bool = True


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        images: Those that can be used.
        groups: (N,) group number of each.
        ties: Why any two are in one group.
        left_out: Files that cannot be used.
        orphans: Crops whose field was not found among those given.
        suspicious: Near-duplicates of different labels, as pairs of indices.
    """

    images: list[Surveyed]
    groups: NDArray[np.int64]
    ties: list[Tie]
    left_out: list[LeftOut]
    orphans: int = 0
    suspicious: list[tuple[int, int]] = field(default_factory=list)

    def group_names(self) -> list[str]:
        """A name for each image's group: the source and the patient, or the source and the first image's hash."""
        names: dict[int, str] = {}
        for image, group in zip(self.images, self.groups.tolist(), strict=True):
            listed = image.listed
            own = listed.patient or listed.group or image.print.sha256[:12]
            names.setdefault(group, own if own.startswith(f"{listed.source}/") else f"{listed.source}/{own}")
        taken = Counter(names.values())
        unique = {
            group: f"{name}#{group}" if taken[name] > 1 else name for group, name in names.items()
        }  # two parts of a patient's name in two sources stay two groups
        return [unique[group] for group in self.groups.tolist()]

    def counts(self) -> list[dict[str, Any]]:
        """Images and groups by class and source."""
        members: dict[tuple[str, str], list[int]] = defaultdict(list)
        for image, group in zip(self.images, self.groups.tolist(), strict=True):
            members[image.label, image.listed.source].append(group)
        return [
            {"label": label, "source": source, "images": len(groups), "groups": len(set(groups))}
            for (label, source), groups in sorted(members.items())
        ]

    def subtypes(self) -> list[dict[str, Any]]:
        """Images and groups by class and subtype, and whether the label tree knows it."""
        members: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
        for image, group in zip(self.images, self.groups.tolist(), strict=True):
            if image.label and image.subtype:
                members[image.label, image.subtype, image.known_subtype].append(group)
        return [
            {
                "label": label,
                "subtype": subtype,
                "known": known,
                "images": len(groups),
                "groups": len(set(groups)),
            }
            for (label, subtype, known), groups in sorted(members.items())
        ]


def survey_images(
    listed: Sequence[Listed],
    *,
    vocabulary: Vocabulary,
    strict: bool = False,
    progress: Progress | None = None,
) -> Survey:
    """Read every file, find what is wrong, and unite what belongs together.

    Args:
        listed: Images as their layouts name them; labels must be known to the vocabulary.
        vocabulary: Turns names into labels.
        strict: Refuse the set as soon as a file has to be left out.
        progress: Told about each step.

    Raises:
        DatasetError: If no image can be used, or `strict` and any cannot.
    """
    say = progress or (lambda _what, _done, _total: None)
    images, left_out = _read_all(listed, vocabulary, say)
    found = alike(
        [image.print for image in images], progress=lambda done: say("Comparing", round(100 * done), 100)
    )
    images, left_out, keep = _without_copies(images, left_out, found)
    number = {old: new for new, old in enumerate(keep)}
    ties = [
        Tie(
            number[match.first],
            number[match.second],
            "same bytes" if _same_bytes(images, number, match) else "near-duplicate",
            f"{match.bits} of 255 bits differ, thumbnails correlate at {match.correlation:.2f}",
        )
        for match in found
        if not match.orientation and match.first in number and match.second in number
    ]
    if strict and left_out:
        first = left_out[0]
        raise DatasetError(f"{len(left_out)} files cannot be used (first: {first.path}: {first.message})")
    if not images:
        why = f" (first: {left_out[0].path}: {left_out[0].message})" if left_out else ""
        raise DatasetError(f"none of the {len(listed)} images can be used{why}")
    suspicious = [(t.first, t.second) for t in ties if _labels_differ(images[t.first], images[t.second])]
    ties += _stated_ties(images)
    cut, orphans = _crop_ties(images, say)
    ties += cut
    return Survey(images, united(len(images), ties), ties, left_out, orphans, suspicious)


def _read_all(
    listed: Sequence[Listed], vocabulary: Vocabulary, say: Progress
) -> tuple[list[Surveyed], list[LeftOut]]:
    images, left_out = [], []
    for number, one in enumerate(listed):
        try:
            images.append(_read(one, vocabulary))
        except _Unwanted as fault:
            left_out.append(LeftOut(one.path, fault.reason, str(fault)))
        except ModeError as fault:
            left_out.append(LeftOut(one.path, fault.mode, str(fault)))
        except ImageError as fault:
            left_out.append(LeftOut(one.path, "unreadable", str(fault)))
        say("Reading", number + 1, len(listed))
    return images, left_out


def _read(one: Listed, vocabulary: Vocabulary) -> Surveyed:
    if looks_augmented(Path(one.path.parent.name) / one.path.name):
        raise _Unwanted(AUGMENTED, "its name says that it is an augmented copy: list originals only")
    picture = read_picture(one.path)
    own = fingerprint(picture.image, picture.data)
    if one.sha256 and one.sha256 != own.sha256:
        raise _Unwanted(CHANGED, "it differs from the SHA-256 that its list states: fetch it again")
    label, meant = vocabulary.meaning(one.name)
    if not label:
        return Surveyed(one, label, one.subtype, own)
    try:
        subtype, known = vocabulary.subtype(label, one.subtype or meant)
    except DatasetError as error:
        raise _Unwanted(MISMATCH, str(error)) from error
    return Surveyed(one, label, subtype, own, known_subtype=known)


class _Unwanted(Exception):
    """Raised for a file that could be read and must not be used."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _without_copies(
    images: list[Surveyed], left_out: list[LeftOut], found: Sequence[Likeness]
) -> tuple[list[Surveyed], list[LeftOut], list[int]]:
    """Drop mirrored and turned copies, and pictures that come twice with different labels."""
    dropped: dict[int, LeftOut] = {}
    for match in found:
        first, second = images[match.first], images[match.second]
        if match.orientation and match.first not in dropped:
            dropped[match.second] = LeftOut(
                second.listed.path,
                AUGMENTED,
                f"it is a mirrored or turned copy of {first.listed.path.name} ({match.bits} of 255 bits differ)",
            )
        elif first.print.sha256 == second.print.sha256 and _labels_differ(first, second):
            for own, other, index in ((first, second, match.first), (second, first, match.second)):
                dropped[index] = LeftOut(
                    own.listed.path,
                    CONFLICT,
                    f"it is {own.label} here, and byte for byte the same as {other.listed.path.name}, which is "
                    f"{other.label}: find out which is right",
                )
    keep = [index for index in range(len(images)) if index not in dropped]
    return [images[index] for index in keep], left_out + [dropped[i] for i in sorted(dropped)], keep


def _same_bytes(images: Sequence[Surveyed], number: dict[int, int], match: Likeness) -> bool:
    first, second = images[number[match.first]], images[number[match.second]]
    return first.print.sha256 == second.print.sha256


def _labels_differ(first: Surveyed, second: Surveyed) -> bool:
    return bool(first.label and second.label and first.label != second.label)


def _stated_ties(images: Sequence[Surveyed]) -> Iterator[Tie]:
    listed = [image.listed for image in images]
    yield from chained(
        (f"{one.source}\0{one.patient}" if one.patient else "" for one in listed), "same patient"
    )
    yield from chained((one.group for one in listed), "same group")
    paths = {str(one.path): index for index, one in enumerate(listed)}
    for index, one in enumerate(listed):
        if one.parent in paths:
            yield Tie(paths[one.parent], index, "parent", Path(one.parent).name)
    yield from chained(
        (f"{one.source}\0{one.parent}" if one.parent and one.parent not in paths else "" for one in listed),
        "same parent",
    )


def _crop_ties(images: Sequence[Surveyed], say: Progress) -> tuple[list[Tie], int]:
    """Join ALL-IDB2 crops to the ALL-IDB1 fields they were cut from."""
    fields = [index for index, image in enumerate(images) if image.listed.source == FIELDS]
    crops = [index for index, image in enumerate(images) if image.listed.source == CROPS]
    if not crops:
        return [], 0
    if not fields:
        return [], len(crops)

    @lru_cache(maxsize=8)
    def read(number: int) -> NDArray[np.uint8]:
        return read_picture(images[fields[number]].listed.path).image

    total = len(fields) + len(crops)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        say("Looking for the fields of crops", done, total)

    index = FieldIndex(read, len(fields), progress=step)
    ties = []
    for crop in crops:
        place = index.find(read_picture(images[crop].listed.path).image)
        if place is not None:
            detail = f"{images[fields[place.field]].listed.path.name} at ({place.x}, {place.y}), {place.correlation:.2f}"
            ties.append(Tie(fields[place.field], crop, "parent", detail))
        step()
    return ties, len(crops) - len(ties)
