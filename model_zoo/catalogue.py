"""Which model packages there are: those shipped with the project, and those on a search path."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from model_zoo.card import CARD_FILE
from model_zoo.errors import PackageError, PackageNotFoundError
from model_zoo.package import ModelPackage

SHIPPED: Final = Path(__file__).parent / "packages"


def package_folders(search_path: Sequence[Path | str] = ()) -> Iterator[Path]:
    """Every folder with a card: those on the search path first, in its order, then the shipped ones.

    A folder of the search path may be a package itself or hold packages.
    """
    for root in [Path(entry) for entry in search_path] + [SHIPPED]:
        if (root / CARD_FILE).is_file():
            yield root
        elif root.is_dir():
            yield from sorted(path.parent for path in root.glob(f"*/{CARD_FILE}"))


def list_packages(search_path: Sequence[Path | str] = ()) -> list[ModelPackage]:
    """Load every usable package; one that is damaged is left out (`verify` says what is wrong with it).

    Args:
        search_path: Folders to look in before the shipped packages.
    """
    packages: dict[str, ModelPackage] = {}
    for folder in package_folders(search_path):
        try:
            package = ModelPackage.load(folder)
        except PackageError:
            continue
        packages.setdefault(package.name, package)
    return list(packages.values())


def find_package(name_or_path: str | Path, search_path: Sequence[Path | str] = ()) -> ModelPackage:
    """Load one package by name, or by the path of its folder.

    Raises:
        PackageNotFoundError: If there is none; the message lists those there are.
        PackageError: If there is one and it cannot be used.
    """
    as_path = Path(name_or_path)
    if as_path.is_dir():
        return ModelPackage.load(as_path)
    folders = list(package_folders(search_path))
    for folder in folders:
        if folder.name == str(name_or_path):
            return ModelPackage.load(folder)
    for package in list_packages(search_path):
        if package.name == str(name_or_path):
            return package
    known = ", ".join(folder.name for folder in folders) or "none"
    msg = f"no model package called {str(name_or_path)!r}: there are {known}; or give the path of a package's folder"
    raise PackageNotFoundError(msg)
