"""Manifests, patient groups and splits: nothing of a patient in two parts."""

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_zoo.augmentation import Augmentation
from model_zoo.datasets.manifest import ManifestRow, patient_groups, read_manifest
from model_zoo.datasets.split import Split, split_by_group
from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS
from model_zoo.preprocessing import Preprocessing
from model_zoo.sampling import FieldSampler, grid_targets
from model_zoo.store import FrameStore


@pytest.fixture
def write_manifest(tmp_path):
    def write(rows, columns=("path", "label", "patient", "sha256")):
        path = tmp_path / "manifest.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([columns, *rows])
        return path

    return write


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a.jpg", "AMLX", "p1", "")], "line 2: label 'AMLX'"),
        ([("a.jpg", "AML", "", "")], "no patient"),
        ([("a_aug3.jpg", "AML", "p1", "")], "augmented copy"),
        ([], "no labelled image"),
    ],
)
def test_faulty_manifests_are_refused_by_line(write_manifest, rows, words):
    with pytest.raises(DatasetError, match=words):
        read_manifest(write_manifest(rows))


def test_missing_columns_and_files_are_named(write_manifest, tmp_path):
    with pytest.raises(DatasetError, match="lacks the column"):
        read_manifest(write_manifest([("a.jpg", "AML")], columns=("path", "label")))
    with pytest.raises(DatasetError, match="no manifest at"):
        read_manifest(tmp_path / "nowhere")


def test_a_store_refuses_an_image_that_changed(write_manifest, tmp_path):
    data = cv2.imencode(".jpg", np.full((48, 64, 3), (200, 180, 220), np.uint8))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data)
    rows = read_manifest(write_manifest([("a.jpg", "AML", "p1", hashlib.sha256(data).hexdigest())]))
    store = FrameStore.from_manifest(rows, tmp_path / "store", preprocessing=Preprocessing())
    assert (store.labels.tolist(), store.pixels.shape) == ([2], (1, 224, 224, 3))
    (tmp_path / "a.jpg").write_bytes(data + b"x")
    with pytest.raises(DatasetError, match="SHA-256"):
        FrameStore.from_manifest(rows, tmp_path / "store", preprocessing=Preprocessing())


def test_an_unfinished_store_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no finished frame store"):
        FrameStore.open(tmp_path)


def row(name, patient, **ties):
    return ManifestRow(path=Path(name), label="AML", patient=patient, **ties)


def test_groups_join_by_patient_parent_group_and_bytes():
    rows = [
        row("a.jpg", "p1"),
        row("b.jpg", "p1"),
        row("c.jpg", "p2", parent="a.jpg"),
        row("d.jpg", "p3", group="slide 9"),
        row("e.jpg", "p4", group="slide 9"),
        row("f.jpg", "p5", sha256="77"),
        row("g.jpg", "p6", sha256="77"),
        row("h.jpg", "p1", source="elsewhere"),
    ]
    assert patient_groups(rows).tolist() == [0, 0, 0, 1, 1, 2, 2, 3]


def test_a_split_deals_whole_groups_in_every_class():
    groups = np.repeat(np.arange(100), 4)
    labels = np.repeat(np.arange(100) % 5, 4)
    split = split_by_group(labels, groups, fractions=(0.6, 0.2, 0.2), seed=3)
    parts = [split.train, split.calibration, split.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[48] * 5, [16] * 5, [16] * 5]
    assert not set(groups[split.train]) & set(groups[split.test])


def test_a_source_that_is_left_out_does_not_come_back_by_a_copy_that_another_has(write_manifest, tmp_path):
    rng = np.random.default_rng(5)
    told = []
    for number in range(16):
        label, source = ("healthy", "AML")[number % 2], "north" if number < 12 else "south"
        data = cv2.imencode(".png", rng.integers(0, 255, (48, 64, 3), np.uint8))[1].tobytes()
        if number >= 14:  # south's last two are north's first two
            data = (tmp_path / f"{number - 14}.png").read_bytes()
        (tmp_path / f"{number}.png").write_bytes(data)
        told.append((f"{number}.png", label, f"p{number}", source, hashlib.sha256(data).hexdigest()))
    rows = read_manifest(write_manifest(told, columns=("path", "label", "patient", "source", "sha256")))
    store = FrameStore.from_manifest(rows, tmp_path / "store", preprocessing=Preprocessing())
    split = store.split(fractions=(0.6, 0.2, 0.2), seed=0, leave_out=("south",))
    used = np.concatenate([split.train, split.calibration, split.test])
    assert sorted(used.tolist()) == list(range(2, 12))


def test_a_split_that_divides_a_patient_is_refused(store, tmp_path):
    halves = Split(np.array([0, 2]), np.array([1]), np.array([3]))
    with pytest.raises(DatasetError, match="divides patient group 7 between train and calibration"):
        halves.check(np.array([7, 7, 8, 9]))


def test_too_few_patients_for_a_split_are_refused():
    with pytest.raises(DatasetError, match="class AML has 2 patient group"):
        split_by_group(np.repeat([0, 2], [12, 8]), np.repeat(np.arange(5), 4))
    with pytest.raises(DatasetError, match="one class only, healthy"):
        split_by_group(np.zeros(8, np.int64), np.repeat(np.arange(4), 2))


def test_simulated_frames_come_with_their_cells(store):
    assert len(store) == 30
    assert store.simulated
    assert {"lymphoblast", "segmented_neutrophil"} <= set(store.kinds)
    assert np.bincount(store.labels).tolist() == [6] * len(LABELS)
    assert len(set(store.groups.tolist())) == 30


def test_fields_are_drawn_in_balance_and_the_same_for_a_seed(store, split):
    sampler = FieldSampler(
        store,
        split.train,
        size=224,
        augmentation=Augmentation(),
        preprocessing=Preprocessing(),
        kinds=store.kinds,
    )
    order = sampler.order(50, np.random.default_rng(4))
    assert np.bincount(store.labels[order]).tolist() == [10] * 5
    first, again = (sampler.batch(order[:4], np.random.default_rng(9)) for _ in range(2))
    assert first.images.shape == (4, 3, 224, 224)
    assert np.array_equal(first.images.numpy(), again.images.numpy())


def test_augmentation_moves_targets_with_the_pixels(store, split):
    """A white dot in the picture and its entry in the target go to the same place."""
    image = np.zeros((224, 224, 3), np.uint8)
    cv2.circle(image, (150, 60), 5, (255, 255, 255), -1)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        matrix = Augmentation().matrix(rng, source=(112, 112), size=224, extent=(224, 224), aspect=4 / 3)
        turned = cv2.warpAffine(image, matrix, (224, 224))
        if turned.max() == 0:
            continue
        y, x = (float(axis.mean()) for axis in np.nonzero(turned[:, :, 0] > 127))
        grid = grid_targets([(0, 150, 60)], matrix, places=7, kinds=1)
        assert grid[0, min(6, int(y // 32)), min(6, int(x // 32))] >= 0.2
        assert grid.sum(axis=0) == pytest.approx(np.ones((7, 7)), abs=1e-6)
