"""A manifest: the list of images that a data set consists of, and who belongs together."""

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.picture import decode_picture
from model_zoo.datasets.ties import Groups, chained
from model_zoo.errors import DatasetError, ImageError
from model_zoo.labels import LABELS
from model_zoo.tree.labels import label_tree

if TYPE_CHECKING:
    from model_zoo.datasets.survey import Survey

REQUIRED: Final = ("path", "label", "patient")
COLUMNS: Final = (
    "path", "sha256", "phash", "source", "label", "subtype", "label_source", "patient", "group", "parent",
    "width", "height", "licence",
)  # fmt: skip

# What augmentation tools put into names: `x_aug3`, `aug_0_123` (Keras), `x_hflip`, `x-rot90`, `x_shifted_2`.
_AUGMENTED: Final = re.compile(
    r"(^|[_\-. ])(aug|augmented|augment|[hv]?flip(ped)?|rot|rotated|mirrored|sheared|zoomed|shifted)"
    r"[_\-. ]?\d*([_\-. ]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ManifestRow:
    """One image.

    Attributes:
        path: The file, absolute.
        label: One of the labels.
        patient: Patient or slide; empty where unknown, and then `group` is not.
        group: A further tie (a block of neighbouring images, a source's own group), or empty.
        parent: The image that this one was cut from, or empty.
        source: Where it comes from.
        sha256: Of the file, or empty.
        subtype: Where one is known.
    """

    path: Path
    label: str
    patient: str
    group: str = ""
    parent: str = ""
    source: str = ""
    sha256: str = ""
    subtype: str = ""


def looks_augmented(path: Path) -> bool:
    """Whether a relative path's folders or name say that the file is an augmented copy."""
    return any(_AUGMENTED.search(part) for part in (*path.parts[:-1], path.stem))


def write_manifest(path: Path, survey: "Survey", *, licence: str = "") -> None:
    """Write a survey as manifest.csv; paths are relative where the images lie below the manifest's folder.

    Args:
        path: Of the manifest; an old one stays whole until the new one is.
        survey: Images and groups.
        licence: For images whose list states none.
    """
    folder = path.parent.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".csv.partial")
    parents = {tie.second: survey.images[tie.first] for tie in survey.ties if tie.kind == "parent"}
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        for index, (image, group) in enumerate(zip(survey.images, survey.group_names(), strict=True)):
            listed = image.listed
            parent = parents.get(index)
            writer.writerow(
                {
                    "path": _relative(listed.path, folder),
                    "sha256": image.print.sha256,
                    "phash": image.print.phash,
                    "source": listed.source,
                    "label": image.label,
                    "subtype": image.subtype,
                    "label_source": listed.label_source,
                    "patient": listed.patient,
                    "group": group,
                    "parent": _relative(parent.listed.path, folder) if parent else listed.parent,
                    "width": image.print.width,
                    "height": image.print.height,
                    "licence": listed.licence or licence,
                }
            )
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _relative(path: Path, folder: Path) -> str:
    absolute = path.resolve()
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)


def read_manifest(path: Path | str, *, unlabelled: bool = False) -> list[ManifestRow]:
    """Read manifest.csv; paths in it are relative to its folder.

    Args:
        path: The manifest, or the folder that holds `manifest.csv`.
        unlabelled: Return rows without a label too; they are left out otherwise.

    Raises:
        DatasetError: If the file or a column is missing, a label is unknown or contradicts its subtype, an image is listed twice
            or with two labels, augmented files are listed, or listed files are not there.
    """
    manifest = manifest_path(path)
    columns, lines = read_table(manifest)
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        raise DatasetError(
            f"{manifest} lacks the column(s) {', '.join(missing)}: it needs {', '.join(REQUIRED)}; "
            f"{separator_hint(columns)}hemolink model manifest writes one"
        )
    raw = [(number, row) for number, row in lines if row["label"] or unlabelled]
    if not any(row["label"] for _, row in raw):
        raise DatasetError(
            f"{manifest} lists no labelled image ({len(lines)} rows, none with a label): fill in the column label with "
            f"{', '.join(LABELS)}, or write the manifest anew from class folders (hemolink model manifest)"
        )
    _check_labels(raw, manifest)
    rows = [_row(row, manifest, number) for number, row in raw]
    numbers = [number for number, _ in raw]
    _check_twice(rows, numbers, manifest)
    _check_files(rows, manifest)
    return rows


def read_table(path: Path) -> tuple[tuple[str, ...], list[tuple[int, dict[str, str]]]]:
    """Read a CSV as people and spreadsheets write it: its columns, and its rows with their line numbers, cells stripped.

    Lines that start with # are notes. A missing cell is an empty one.

    Raises:
        DatasetError: If it cannot be read, or is not UTF-8 text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.readlines()
        notes = next((n for n, line in enumerate(text) if not line.startswith("#")), len(text))
        # a note among the rows keeps its line, so that numbers are those of an editor
        reader = csv.DictReader("\n" if line.startswith("#") else line for line in text[notes:])
        columns = tuple((name or "").strip() for name in reader.fieldnames or ())
        lines = []
        for row in reader:
            cells = {(name or "").strip(): (row[name] or "").strip() for name in reader.fieldnames or ()}
            lines.append((reader.line_num + notes, cells))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path} cannot be read as CSV ({error}): save it as comma-separated UTF-8 text"
        ) from error
    if any("\0" in cell for _, cells in lines for cell in cells.values()):
        raise DatasetError(f"{path} holds a zero byte: save it as comma-separated UTF-8 text")
    return columns, lines


def separator_hint(columns: Sequence[str]) -> str:
    """What to say where a table's columns look like one, parted by something else than commas."""
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        return "its columns seem to be parted by semicolons or tabs, save it with commas; "
    return ""


def manifest_path(path: Path | str) -> Path:
    """The manifest that a path names: itself, or `manifest.csv` in a folder.

    Raises:
        DatasetError: If there is none.
    """
    manifest = Path(path)
    if manifest.is_dir():
        manifest = manifest / "manifest.csv"
    if not manifest.is_file():
        raise DatasetError(f"no manifest at {manifest}: give a manifest.csv, or the folder that holds one")
    return manifest


def _check_labels(raw: Sequence[tuple[int, dict[str, str]]], manifest: Path) -> None:
    unknown = Counter(row["label"] for _, row in raw if row["label"] not in (*LABELS, ""))
    if unknown:
        line, label = next((n, row["label"]) for n, row in raw if row["label"] in unknown)
        others = ", ".join(f"{name!r} ({count} rows)" for name, count in unknown.most_common(12))
        raise DatasetError(
            f"{manifest}, line {line}: label {label!r} is none of {', '.join(LABELS)} (unknown in all: {others}); "
            "hemolink model manifest --label NAME=LABEL translates"
        )


def _check_twice(rows: Sequence[ManifestRow], numbers: Sequence[int], manifest: Path) -> None:
    """Refuse an image that is listed twice, and one picture with two labels."""
    by_path: dict[Path, int] = {}
    by_bytes: dict[str, int] = {}
    for index, row in enumerate(rows):
        here, place = f"{manifest}, line {numbers[index]}", Path(os.path.normpath(row.path))
        if place in by_path:
            first = rows[by_path[place]]
            labels = (
                f", once as {first.label or 'unlabelled'} and once as {row.label or 'unlabelled'}: find out which is right, "
                "and keep one row"
                if first.label != row.label
                else ": keep one row of it"
            )
            raise DatasetError(
                f"{here}: {row.path.name} is listed on line {numbers[by_path[place]]} already{labels}"
            )
        by_path[place] = index
        if row.sha256 and row.label:
            first = rows[by_bytes.setdefault(row.sha256, index)]
            if first.label != row.label:
                raise DatasetError(
                    f"{here}: {row.path.name} is {row.label}, and {first.path.name} on line "
                    f"{numbers[by_bytes[row.sha256]]}, byte for byte the same, is {first.label}: find out which is right, and "
                    "keep one row"
                )


def _check_files(rows: Sequence[ManifestRow], manifest: Path) -> None:
    gone = [row.path for row in rows if not row.path.is_file()]
    if gone:
        raise DatasetError(
            f"{len(gone)} of the {len(rows)} images that {manifest} lists are not there (first: {gone[0]}): if they were "
            "moved, write the manifest again where they are now (hemolink model manifest)"
        )


def _row(raw: dict[str, str], manifest: Path, line: int) -> ManifestRow:
    if looks_augmented(Path(raw["path"])):
        raise DatasetError(
            f"{manifest}, line {line}: {raw['path']} looks like an augmented copy; list originals only, "
            "augmentation is done on the fly and only in training"
        )
    if not raw["path"]:
        raise DatasetError(
            f"{manifest}, line {line}: the column path is empty: name the image, or remove the row"
        )
    if not raw["patient"] and not raw.get("group"):
        raise DatasetError(
            f"{manifest}, line {line}: no patient and no group; an image of unknown origin needs a group of its own "
            "(hemolink model manifest gives it one)"
        )
    subtype = raw.get("subtype") or ""
    if raw["label"]:
        try:
            label_tree().find(raw["label"], subtype)
        except DatasetError as error:
            raise DatasetError(f"{manifest}, line {line}: {error}") from error
    parent = raw.get("parent") or ""
    if parent and (manifest.parent / parent).is_file():
        parent = str(manifest.parent / parent)
    return ManifestRow(
        path=manifest.parent / raw["path"],
        label=raw["label"],
        patient=raw["patient"],
        group=raw.get("group") or "",
        parent=parent,
        source=raw.get("source") or "",
        sha256=raw.get("sha256") or "",
        subtype=subtype,
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


def load_image(row: ManifestRow) -> NDArray[np.uint8]:
    """Read, check and decode an image: (H, W, 3) uint8 BGR.

    Raises:
        DatasetError: If it is missing, differs from its hash, or is no 8-bit colour image.
    """
    try:
        return decode_picture(read_image_bytes(row))
    except ImageError as error:
        raise DatasetError(f"{row.path}: {error} (hemolink model manifest leaves such files out)") from error


def patient_groups(rows: Sequence[ManifestRow]) -> NDArray[np.int64]:
    """Number the groups of images that must stay together, by union of what ties them.

    Images belong together if they share a patient (of one source), a group, a parent (of one source, unless it is listed
    itself, which ties too), or their very bytes.

    Returns:
        (N,) int64, from 0, in order of first appearance.
    """
    listed = {str(row.path) for row in rows}
    parents = [
        str(row.path)
        if not row.parent
        else row.parent
        if row.parent in listed
        else f"{row.source}\0{row.parent}"
        for row in rows
    ]
    own = {str(row.path): index for index, row in enumerate(rows)}
    ties = [
        *chained((f"{row.source}\0{row.patient}" if row.patient else "" for row in rows), "same patient"),
        *chained((row.group for row in rows), "same group"),
        *chained(parents, "same parent"),
        *chained((row.sha256 for row in rows), "same bytes"),
    ]
    groups = Groups(len(rows))
    for tie in ties:
        groups.unite(tie.first, tie.second)
    for index, parent in enumerate(parents):
        if parent in own:
            groups.unite(own[parent], index)
    return groups.numbers()
