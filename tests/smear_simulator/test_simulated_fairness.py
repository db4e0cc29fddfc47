"""Nothing but morphology may give the class away: forests on everything else stay at chance.

Patients are split, and the interval is Wilson's at 95 %. Class-independence is built in, so beside the
forests there is a sharper test: twins, who share a seed and differ in disease alone.
"""

import cv2
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from smear_simulator import CLASSES, Confound, Field, Microscope, Patient, population

PATIENTS = 240


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def colour(pixels: np.ndarray) -> np.ndarray:
    """Mean, deviation, percentiles and histograms of an (n, 3) list of BGR pixels in Lab and HSV."""
    parts = []
    for space in (cv2.COLOR_BGR2LAB, cv2.COLOR_BGR2HSV):
        values = cv2.cvtColor(pixels[None], space)[0]
        parts += [values.mean(axis=0), values.std(axis=0)]
        parts.append(np.percentile(values[::4], [1, 5, 25, 50, 75, 95, 99], axis=0).ravel())
        parts += [np.bincount(values[:, c] >> 4, minlength=16) / len(values) for c in range(3)]
    return np.concatenate(parts)


def density(field: Field) -> list[float]:
    truth = field.truth
    white, nucleus, red = (m > 0 for m in (truth.white_cell_mask, truth.nucleus_mask, truth.red_cell_mask))
    number = len(truth.white_cells)
    return [
        number,
        sum(cell.kind == "red_cell" for cell in truth.cells),
        sum(cell.kind == "platelet" for cell in truth.cells),
        white.mean(),
        nucleus.mean(),
        red.mean(),
        (white | red).mean(),
        white.mean() / number,
        nucleus.mean() / max(white.mean(), 1e-9),
    ]


def texture(image: np.ndarray) -> np.ndarray:
    """Local binary patterns of two scales."""
    parts = []
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    for scale in (1, 3):
        small = cv2.resize(grey, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        code = np.zeros_like(small)
        for bit, step in enumerate([(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]):
            code |= (np.roll(small, step, (0, 1)) >= small).astype(np.uint8) << np.uint8(bit)
        parts.append(np.bincount(code.ravel(), minlength=256) / code.size)
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def table():
    rows = {"background": [], "colour and density": [], "texture": []}
    labels = []
    for patient in population(PATIENTS, seed=2026):
        field = Microscope(patient, seed=1).capture()
        truth = field.truth
        empty = (truth.white_cell_mask == 0) & (truth.red_cell_mask == 0)
        empty = cv2.erode(empty.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        everything = colour(field.image[::2, ::2].reshape(-1, 3))
        rows["background"].append(colour(field.image[empty][::4]))
        rows["colour and density"].append(np.concatenate([everything, density(field)]))
        rows["texture"].append(np.concatenate([everything, texture(field.image)]))
        labels.append(CLASSES.index(patient.disease))
    return rows, np.array(labels)


def hits(rows, labels) -> int:
    forest = RandomForestClassifier(150, min_samples_leaf=2, random_state=0)
    guess = cross_val_predict(forest, np.array(rows), labels, groups=np.arange(len(labels)), cv=GroupKFold(5))
    return int((guess == labels).sum())


@pytest.mark.parametrize("what", ["background", "colour and density"])
def test_a_forest_without_morphology_stays_at_chance(table, what):
    rows, labels = table
    low, high = wilson(hits(rows[what], labels), len(labels))
    assert low <= 0.20 <= high, f"{what}: {low:.3f} to {high:.3f}"


def test_colour_and_texture_do_not_solve_the_task(table):
    rows, labels = table
    _, high = wilson(hits(rows["texture"], labels), len(labels))
    assert high < 0.90


def test_twins_differ_in_disease_alone():
    measures = []
    for seed in range(24):
        pair = []
        for disease in CLASSES:
            field = Microscope(Patient.sample(disease, seed=seed)).capture()
            lab = cv2.cvtColor(field.image, cv2.COLOR_BGR2LAB).reshape(-1, 3)
            pair.append([*lab.mean(axis=0), *lab.std(axis=0), *density(field)])
        measures.append(pair)
    values = np.array(measures)  # (seed, class, measure)
    effect = (values - values.mean(axis=1, keepdims=True)).mean(axis=0)
    spread = values.std(axis=(0, 1))
    # No class's mean stands off by more than a fifth of the spread between patients.
    assert np.abs(effect / spread).max() < 1 / 5


def test_a_planted_confound_is_found():
    confound = Confound(background_tint_by_class=True)
    rows, labels = [], []
    for patient in population(60, seed=5):
        image = Microscope(confound.plant(patient), width=160, height=120, seed=1).capture().image
        rows.append(colour(image.reshape(-1, 3)))
        labels.append(CLASSES.index(patient.disease))
    low, _ = wilson(hits(rows, np.array(labels)), len(labels))
    assert low > 0.20
