"""A manifest: the list of images that a data set consists of, and who belongs together."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS

REQUIRED: Final = ("path", "label", "patient")
_AUGMENTED: Final = ("_aug", "-aug", "_flip", "_rot", "augmented")


@dataclass(frozen=True)
class ManifestRow:
    """One image.

    Attributes:
        path: The file, absolute.
        label: One of the labels.
        patient: Patient or slide.
        group: A further tie (a block of neighbouring images, a source's own group), or empty.
        parent: The image that this one was cut from, or empty.
        source: Where it comes from.
        sha256: Of the file, or empty.
    """

    path: Path
    label: str
    patient: str
    group: str = ""
    parent: str = ""
    source: str = ""
    sha256: str = ""


def read_manifest(path: Path | str) -> list[ManifestRow]:
    """Read manifest.csv; paths in it are relative to its folder. Rows without a label are left out.

    Raises:
        DatasetError: If the file or a column is missing, a label is unknown, or augmented files are listed.
    """
    manifest = Path(path)
    if manifest.is_dir():
        manifest = manifest / "manifest.csv"
    if not manifest.is_file():
        raise DatasetError(f"no manifest at {manifest}: give a manifest.csv, or the folder that holds one")
    with manifest.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(line for line in file if not line.startswith("#"))
        missing = [column for column in REQUIRED if column not in (reader.fieldnames or [])]
        if missing:
            raise DatasetError(
                f"{manifest} lacks the column(s) {', '.join(missing)}: it needs {', '.join(REQUIRED)}"
            )
        rows = [_row(raw, manifest, number) for number, raw in enumerate(reader, start=2) if raw["label"]]
    if not rows:
        raise DatasetError(f"{manifest} lists no labelled image")
    return rows


def _row(raw: dict[str, str], manifest: Path, line: int) -> ManifestRow:
    label = raw["label"]
    if label not in LABELS:
        raise DatasetError(f"{manifest}, line {line}: label {label!r} is none of {', '.join(LABELS)}")
    stem = Path(raw["path"]).stem.lower()
    if any(mark in stem for mark in _AUGMENTED):
        raise DatasetError(
            f"{manifest}, line {line}: {raw['path']} looks like an augmented copy; list originals only, "
            "augmentation is done on the fly and only in training"
        )
    if not raw["patient"]:
        raise DatasetError(
            f"{manifest}, line {line}: no patient; an image of unknown origin needs a group of its own"
        )
    return ManifestRow(
        path=manifest.parent / raw["path"],
        label=label,
        patient=raw["patient"],
        group=raw.get("group") or "",
        parent=raw.get("parent") or "",
        source=raw.get("source") or "",
        sha256=raw.get("sha256") or "",
    )


def read_image_bytes(row: ManifestRow) -> bytes:
    """Read an image's file and compare its hash, if the manifest states one.

    Raises:
        DatasetError: If the file is missing or differs.
    """
    try:
        data = row.path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{row.path} cannot be read ({error.strerror}): the manifest lists it") from error
    if row.sha256 and hashlib.sha256(data).hexdigest() != row.sha256:
        raise DatasetError(
            f"{row.path} differs from the SHA-256 in its manifest: fetch or write the data set again"
        )
    return data


def patient_groups(rows: list[ManifestRow]) -> NDArray[np.int64]:
    """Number the groups of images that must stay together, by union of what ties them.

    Images belong together if they share a patient (of one source), a group, a parent, or their very bytes; a parent that
    is itself listed ties too.

    Returns:
        (N,) int64, from 0, in order of first appearance.
    """
    leaders: dict[str, str] = {}

    def leader(key: str) -> str:
        leaders.setdefault(key, key)
        while leaders[key] != key:
            leaders[key] = leaders[leaders[key]]
            key = leaders[key]
        return key

    for row in rows:
        own = f"image\0{row.path.name}"
        ties = [f"patient\0{row.source}\0{row.patient}"]
        ties += [f"group\0{row.group}"] if row.group else []
        ties += [f"image\0{Path(row.parent).name}"] if row.parent else []
        ties += [f"bytes\0{row.sha256}"] if row.sha256 else []
        for tie in ties:
            leaders[leader(tie)] = leader(own)
    numbers: dict[str, int] = {}
    return np.asarray(
        [numbers.setdefault(leader(f"image\0{row.path.name}"), len(numbers)) for row in rows], np.int64
    )
