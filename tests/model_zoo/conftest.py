"""A package made in seconds from random weights, and the shipped ones."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from model_zoo.datasets.split import split_by_group
from model_zoo.image import decode_image
from model_zoo.package import ModelPackage
from model_zoo.predictor import Predictor
from model_zoo.preprocessing import Preprocessing
from model_zoo.store import FrameStore
from smear_simulator import Microscope, population

UNSEEN_SEED = 977_001
"""Simulated patients of this seed are in no training run."""


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> FrameStore:
    """Thirty simulated patients, one frame each, with their cells."""
    from model_zoo.simulated import render_store  # noqa: PLC0415 - needs the simulator only

    return render_store(tmp_path_factory.mktemp("store"), patients=30, frames=1, seed=5)


@pytest.fixture(scope="session")
def split(store):
    return split_by_group(store.labels, store.groups, fractions=(0.5, 0.25, 0.25), seed=1)


@pytest.fixture(scope="session")
def made(tmp_path_factory, store, split) -> ModelPackage:
    """A real package of a network that has learnt nothing."""
    from model_zoo.packaging import PackageSettings, build_package  # noqa: PLC0415 - torch takes seconds
    from model_zoo.training import Trainer, TrainingSettings  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("made")
    Trainer(
        TrainingSettings("resnet34", (), from_scratch=True), store, split, folder / "run", quiet=True
    ).run()
    return build_package(
        folder / "run", store, folder / "tiny", settings=PackageSettings("tiny", alpha=0.2, strange=2)
    )


@pytest.fixture
def package_copy(made, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made.path, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def unseen() -> list[tuple[np.ndarray, str]]:
    """Sixty frames of sixty simulated patients that no network has seen, with their disease."""
    return _simulated(60)


@pytest.fixture(scope="session")
def many_unseen() -> list[tuple[np.ndarray, str]]:
    """A thousand frames of as many simulated patients that no network has seen."""
    return _simulated(1000)


@pytest.fixture(scope="session")
def real_smears() -> Path:
    """The folder of real smear images, if it lies beside the checkout or HEMOLINK_SMEARS names it."""
    folder = Path(os.environ.get("HEMOLINK_SMEARS") or Path(__file__).parents[3] / "shared/data/smears")
    if not (folder / "manifest.csv").is_file():
        pytest.skip("no real smears beside this checkout; HEMOLINK_SMEARS may name their folder")
    return folder


@pytest.fixture(scope="session")
def real_frames(real_smears) -> list[np.ndarray]:
    """Real frames, if there are any here."""
    paths = sorted((real_smears / "bccd").glob("*.jpg"))[::11]
    return [decode_image(path.read_bytes()) for path in paths]


def _simulated(count: int) -> list[tuple[np.ndarray, str]]:
    """Prepared inputs (3, 224, 224), one a patient, with the disease."""
    frames = []
    for patient in population(count, seed=UNSEEN_SEED):
        field = Microscope(patient, seed=UNSEEN_SEED).capture()
        frames.append((Preprocessing().prepare(field.image), field.truth.disease))
    return frames


@pytest.fixture
def serve():
    """Start predictors that are stopped at the test's end."""
    started = []

    def start(package, **options) -> Predictor:
        predictor = Predictor(package, **options)
        predictor.start()
        started.append(predictor)
        return predictor

    yield start
    for predictor in started:
        predictor.stop()
