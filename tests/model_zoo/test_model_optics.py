"""The optics of a frame: what the network's input tells of sharpness, noise and magnification."""

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model_zoo.card import read_card
from model_zoo.detector import Detector
from model_zoo.engines import Outputs
from model_zoo.optics import FEATURES, LAGS, NAME, measure_optics, with_optics
from model_zoo.package import ModelPackage, file_sha256
from model_zoo.packaging import write_card
from model_zoo.preprocessing import Preprocessing
from smear_simulator import Microscope, population

HALF = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def frames():
    return [Microscope(patient, seed=8).capture().image for patient in population(10, seed=8)]


@pytest.mark.parametrize("preprocessing", [Preprocessing(), HALF])
def test_grey_values_come_back_from_the_networks_input(frames, preprocessing):
    for frame in frames:
        small = preprocessing.resize(frame)
        wanted = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(int)
        assert np.abs(preprocessing.grey(preprocessing.prepare(frame)) - wanted).max() <= 1


@pytest.mark.parametrize("preprocessing", [Preprocessing(), HALF])
def test_they_stand_behind_the_networks_features_whatever_it_was_trained_with(frames, preprocessing):
    batch = [preprocessing.prepare(frame) for frame in frames]
    features = np.arange(10 * 7, dtype=np.float32).reshape(10, 7)
    outputs = Outputs(np.zeros((10, 5), np.float32), features, np.zeros((10, 5, 7, 7), np.float32))
    found = with_optics(outputs, batch, preprocessing)
    assert np.array_equal(found.features[:, :7], features)
    assert found.features.shape == (10, 7 + FEATURES)
    assert found.features.dtype == np.float32
    reference = [measure_optics(cv2.cvtColor(Preprocessing().resize(f), cv2.COLOR_BGR2GRAY)) for f in frames]
    assert found.features[:, 7:] == pytest.approx(np.stack(reference), abs=0.05)


def test_short_distances_see_sharpness_and_noise_and_long_ones_do_not(frames):
    near, far = [2 * LAGS.index(1), 2 * LAGS.index(1) + 1], [2 * LAGS.index(32), 2 * LAGS.index(32) + 1]
    rng = np.random.default_rng(0)
    for frame in frames:
        grey = cv2.cvtColor(Preprocessing().resize(frame), cv2.COLOR_BGR2GRAY)
        plain = measure_optics(grey)
        soft = measure_optics(cv2.GaussianBlur(grey, (0, 0), 1.0)) - plain
        noisy = measure_optics(np.clip(grey + rng.normal(0, 6, grey.shape), 0, 255).astype(np.uint8)) - plain
        assert (soft[near] < -0.2).all()
        assert (noisy[near] > 0.2).all()
        assert (np.abs([*soft[far], *noisy[far]]) < 0.2).all()


def test_a_frame_of_one_grey_has_optics_too():
    assert np.isfinite(measure_optics(np.full((224, 224), 200, np.uint8))).all()


@pytest.mark.torch
def test_a_package_without_them_is_served_as_before(package_copy):
    """Cards of version 2 have no such block; what stands behind the network's features is nothing to them."""
    card = read_card(package_copy)
    kept = tuple(block for block in card.out_of_distribution.blocks if block.name != NAME)
    assert len(kept) == len(card.out_of_distribution.blocks) - 1
    tensors = load_file(package_copy / "guard.safetensors")
    save_file(
        {name: array for name, array in tensors.items() if not name.startswith(f"ood.{NAME}.")},
        package_copy / "guard.safetensors",
    )
    files = card.files | {"guard.safetensors": file_sha256(package_copy / "guard.safetensors")}
    older = card.out_of_distribution.model_copy(update={"blocks": kept})
    write_card(
        card.model_copy(update={"schema_version": "2", "files": files, "out_of_distribution": older}),
        package_copy,
    )
    detector = Detector.from_package(ModelPackage.load(package_copy))
    features = np.random.default_rng(1).normal(size=(3, kept[-1].stop + FEATURES)).astype(np.float32)
    assert np.array_equal(detector.score(features), detector.score(features[:, : kept[-1].stop]))
