"""A model package: a folder with one weights file, a graph that points into it, arrays of the guard, and a card.

Nothing in a package is ever unpickled, and nothing of it is used before its hash has been compared with the card's.
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from model_zoo.card import CARD_FILE, GRAPH_FILE, GUARD_FILE, WEIGHTS_FILE, Card, read_card
from model_zoo.errors import IntegrityError, PackageNotFoundError, UnsafePackageError

_PICKLE_SUFFIXES: Final = frozenset(
    {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib", ".npy", ".npz"}
)
_EXPECTED: Final = frozenset({CARD_FILE, WEIGHTS_FILE, GRAPH_FILE, GUARD_FILE})
_SAFE: Final = frozenset({WEIGHTS_FILE, GUARD_FILE})
_HEADER_LIMIT: Final = 100_000_000


@dataclass(frozen=True)
class ModelPackage:
    """A verified model package.

    Attributes:
        path: The folder.
        card: The validated card.
    """

    path: Path
    card: Card

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Open a package and verify it.

        Args:
            path: The package's folder.

        Raises:
            PackageNotFoundError: If the folder does not exist.
            CardError: If the card is missing, malformed or of an unknown version.
            UnsafePackageError: If there is a pickle in the folder.
            IntegrityError: If a file is missing or its hash differs from the card's.
        """
        folder = Path(path)
        if not folder.is_dir():
            msg = f"no model package at {folder}: it is not a folder"
            raise PackageNotFoundError(msg)
        _refuse_pickles(folder)
        card = read_card(folder)
        named = (GUARD_FILE,) if GUARD_FILE in card.files or (folder / GUARD_FILE).exists() else ()
        for name in (WEIGHTS_FILE, GRAPH_FILE, *named):
            _compare_hash(folder / name, card.files.get(name))
        return cls(folder, card)

    @property
    def name(self) -> str:
        """The package's name, e.g. `resnet34-simulated`."""
        return self.card.name

    @property
    def version(self) -> str:
        """The package's version."""
        return self.card.version

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.card.labels

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file, in hexadecimal."""
        return self.card.files[WEIGHTS_FILE]

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return self.path / WEIGHTS_FILE

    @property
    def graph_path(self) -> Path:
        """The ONNX graph, whose initializers point into the weights file."""
        return self.path / GRAPH_FILE

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Read one tensor as float32: of the guard's file, where the package has one that holds it, else of the weights.

        Raises:
            IntegrityError: If there is no such tensor.
        """
        guard = self.path / GUARD_FILE
        try:
            if GUARD_FILE in self.card.files:
                with safe_open(guard, framework="np") as file:
                    if name in file.keys():  # noqa: SIM118 - it is no dictionary
                        return np.asarray(file.get_tensor(name), np.float32)
            with safe_open(self.weights_path, framework="np") as file:
                return np.asarray(file.get_tensor(name), np.float32)
        except (SafetensorError, OSError) as error:
            msg = f"{self.weights_path} has no tensor {name!r} ({error}): package the model again"
            raise IntegrityError(msg) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare_hash(path: Path, stated: str | None) -> None:
    if not path.is_file():
        msg = f"{path} is missing: the package is incomplete, fetch it again"
        raise IntegrityError(msg)
    if stated is None:
        msg = f"the card beside {path} states no SHA-256 for it: package the model again"
        raise IntegrityError(msg)
    found = file_sha256(path)
    if found != stated:
        msg = (
            f"{path} has SHA-256 {found[:12]}..., the card states {stated[:12]}...: "
            "the file was changed or cut short; fetch the package again"
        )
        raise IntegrityError(msg)


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        if path.suffix.lower() in _PICKLE_SUFFIXES or _starts_like_pickle(path):
            msg = (
                f"{path} is, or may hold, a pickle, which runs code when it is read: remove it; "
                f"a model package holds {', '.join(sorted(_EXPECTED))} and nothing executable"
            )
            raise UnsafePackageError(msg)
        if path.name in _SAFE:
            _require_safetensors(path)


def _starts_like_pickle(path: Path) -> bool:
    """A pickle of protocol 2 to 5 starts with 0x80 and the protocol; torch's archives are zip files."""
    with path.open("rb") as file:
        head = file.read(4)
    if path.name in _SAFE and _has_safetensors_header(path):
        return False  # its first eight bytes are a length, which may look like anything
    return head == b"PK\x03\x04" or (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5)  # noqa: PLR2004


def _has_safetensors_header(path: Path) -> bool:
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:  # noqa: PLR2004
            return False
        (length,) = struct.unpack("<Q", prefix)
        if not 0 < length <= min(_HEADER_LIMIT, path.stat().st_size - 8):
            return False
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except (UnicodeDecodeError, json.JSONDecodeError):
            return False


def _require_safetensors(path: Path) -> None:
    if not _has_safetensors_header(path):
        msg = f"{path} is not a safetensors file (pickled or damaged?): nothing is unpickled here; fetch the package again"
        raise UnsafePackageError(msg)
