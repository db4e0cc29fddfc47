"""How public sets and laboratories lay out their images: names and folders that tell class, patient and parent.

| layout | what tells | who belongs together |
|---|---|---|
| `csv` | columns path, label; patient, group, parent, source, subtype where there are any | as stated |
| `all-idb` | `Im001_1.jpg`: suffix 1 = ALL, 0 = healthy (Labati et al. 2011) | ALL-IDB2 crops are looked for in ALL-IDB1 |
| `c-nmc` | `UID_11_4_2_all.bmp`: subject, field, cell, class; subjects of healthy cells start with H | subject and field |
| `c-nmc-csv` | C-NMC's preliminary test set: columns Patient_ID and new_names | subject and field |
| `tree` | `class/image` (as the ASH image bank is kept) or `class/patient/.../image` | patient folder |
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from model_zoo.datasets.manifest import read_table, separator_hint
from model_zoo.datasets.picture import SUFFIXES
from model_zoo.datasets.vocabulary import Vocabulary
from model_zoo.errors import DatasetError

CROPS: Final = "all-idb2"
FIELDS: Final = "all-idb1"

_ALL_IDB: Final = re.compile(r"^im\d{3}_([01])$", re.IGNORECASE)
_C_NMC: Final = re.compile(r"^UID_(H?\d+)_(\d+)_(\d+)_(all|hem)$", re.IGNORECASE)
_CSV_REQUIRED: Final = ("path", "label")
_PRELIMINARY: Final = ("Patient_ID", "new_names")


@dataclass(frozen=True)
class Listed:
    """An image as a layout names it, before it is read.

    Attributes:
        path: The file, absolute.
        name: What the source calls its class; empty where it does not say.
        source: Where it comes from.
        patient: Patient or slide, or empty where unknown.
        group: A further tie that the source states, or empty.
        parent: The field that it was cut from, or empty.
        subtype: As stated, or empty.
        sha256: As stated, or empty.
        licence: As stated, or empty.
        label_source: Who says so: a naming, a folder, a column.
    """

    path: Path
    name: str
    source: str
    patient: str = ""
    group: str = ""
    parent: str = ""
    subtype: str = ""
    sha256: str = ""
    licence: str = ""
    label_source: str = ""


def list_images(root: Path, *, source: str, vocabulary: Vocabulary) -> tuple[str, list[Listed]]:
    """List the images of a folder or CSV by its layout.

    Args:
        root: A folder, or a CSV.
        source: What to call the source where the data do not say; the folder's name if empty.
        vocabulary: To tell class folders from other folders.

    Returns:
        The layout's name, and the images in order of their paths.

    Raises:
        DatasetError: If there is nothing, or no layout fits.
    """
    if not root.exists():
        raise DatasetError(f"{root} does not exist: name a folder of images, or a CSV")
    root = root.resolve()
    source = source or root.name
    if root.is_file():
        return _from_csv(root, source)
    if (root / "manifest.csv").is_file():
        return _from_csv(root / "manifest.csv", source)
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DatasetError(
            f"{root} holds no image ({', '.join(sorted(SUFFIXES))}): name the folder above the class folders"
        )
    if all(_ALL_IDB.match(path.stem) for path in paths):
        return "all-idb", [_all_idb(path, root) for path in paths]
    if all(_C_NMC.match(path.stem) for path in paths):
        return "c-nmc", [_c_nmc(path, path.stem, source) for path in paths]
    return "tree", _tree(paths, root, source=source, vocabulary=vocabulary)


def _all_idb(path: Path, root: Path) -> Listed:
    inside = str(path.relative_to(root.parent)).lower()
    crop = "idb2" in inside or ("idb1" not in inside and path.suffix.lower() not in (".jpg", ".jpeg"))
    name = "all" if path.stem.endswith("1") else "healthy"
    return Listed(
        path, name, source=CROPS if crop else FIELDS, label_source="ALL-IDB file name (0 healthy, 1 ALL)"
    )


def _c_nmc(path: Path, name: str, source: str) -> Listed:
    match = _C_NMC.match(name)
    if match is None:
        raise DatasetError(
            f"{path}: {name!r} is not a C-NMC name (UID_subject_field_cell_class): check its list"
        )
    subject, field, _, label = match.groups()
    return Listed(
        path,
        label.lower(),
        source=source,
        patient=f"UID_{subject}",
        parent=f"UID_{subject}_{field}",
        label_source="C-NMC file name",
    )


def _tree(paths: Sequence[Path], root: Path, *, source: str, vocabulary: Vocabulary) -> list[Listed]:
    """Class folders, perhaps under folders that hold them all, perhaps with a folder a patient in each."""
    listed, outside = [], []
    for path in paths:
        folders = path.relative_to(root).parts[:-1]
        depth = next((number for number, folder in enumerate(folders) if folder in vocabulary), None)
        if depth is None:
            # A folder that no label is known for is still a class folder; the message names them all at once.
            depth = 0 if folders else None
        if depth is None:
            outside.append(path)
            continue
        label_folder, rest = folders[depth], folders[depth + 1 :]
        patient = "/".join(rest)
        listed.append(Listed(path, label_folder, source=source, patient=patient, label_source="folder name"))
    if outside:
        raise DatasetError(
            f"{root} holds {len(outside)} images outside any class folder (first: {outside[0].name}): put each in a "
            "folder named for its class, or list them in a CSV with the columns path, label, patient"
        )
    return listed


def _from_csv(path: Path, source: str) -> tuple[str, list[Listed]]:
    columns, lines = read_table(path)
    rows = [row for _, row in lines]
    if all(column in columns for column in _PRELIMINARY):
        return "c-nmc-csv", [
            _c_nmc(path.parent / row["new_names"], Path(row["Patient_ID"]).stem, source) for row in rows
        ]
    missing = [column for column in _CSV_REQUIRED if column not in columns]
    if missing:
        raise DatasetError(
            f"{path} lacks the column(s) {', '.join(missing)}: {separator_hint(columns)}it needs path and label, and takes patient, group, parent, "
            "source, subtype, sha256, licence, label_source"
        )
    if not rows:
        raise DatasetError(
            f"{path} lists no image: give it a row an image, or name a folder of images instead"
        )
    bare = next((number for number, row in lines if not row["path"]), None)
    if bare is not None:
        raise DatasetError(
            f"{path}, line {bare}: the column path is empty: name the image, or remove the row"
        )
    return "csv", [_row(row, path, source) for row in rows]


def _row(row: dict[str, str], manifest: Path, source: str) -> Listed:
    def cell(column: str) -> str:
        return (row.get(column) or "").strip()

    listed = Listed(
        path=manifest.parent / cell("path"),
        name=cell("label"),
        source=cell("source") or source,
        patient=cell("patient"),
        group=cell("group"),
        parent=cell("parent"),
        subtype=cell("subtype"),
        sha256=cell("sha256"),
        licence=cell("licence"),
        label_source=cell("label_source") or f"column of {manifest.name}",
    )
    if listed.parent and (manifest.parent / listed.parent).is_file():
        listed = replace(listed, parent=str(manifest.parent / listed.parent))
    return listed
