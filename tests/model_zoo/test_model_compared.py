"""The methods that the study was compared with: each is a row that runs."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from model_zoo.commands import model
from model_zoo.compared.features import BLOCKS, all_features, shape_features, stockwell_features
from model_zoo.compared.genetic import GeneticSelection
from model_zoo.compared.grasshopper import GrasshopperWeights, moved
from model_zoo.compared.medoids import MedoidClassifier
from model_zoo.compared.methods import METHODS
from model_zoo.compared.sinecosine import SineCosineNetwork, swung
from smear_simulator import write_dataset

pytestmark = pytest.mark.torch


def blobs(n=180, noise=30, seed=0):
    """Three classes that five features tell apart, among others that tell nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    features = rng.normal(size=(n, 5 + noise)).astype(np.float32)
    features[:, :5] += 2.5 * np.eye(3, 5)[labels]
    return features, labels


QUICK = (
    "random forest",
    "KNN + naive Bayes",
    "K-medoids",
    "DOST + PCA + LDA",
    "GA + SVM",
    "simple CNN",
    "GAO (stand-in)",
)


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param(tuple(method.name for method in METHODS), marks=pytest.mark.slow)]
)
def test_every_method_is_a_row_on_both_paths(tmp_path, names):
    write_dataset(tmp_path, patients=15, frames=1, seed=12, width=160, height=160)
    arguments = [
        "compare",
        "--manifest",
        str(tmp_path),
        "--per-class",
        "4",
        "--copies",
        "3",
        "--quiet",
        "--json",
        *(part for name in names for part in ("--method", name)),
    ]
    done = CliRunner().invoke(model, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.strip().splitlines()[-1])
    assert [row["method"] for row in report["methods"]] == list(names)
    assert len(METHODS) == 13
    assert report["simulated"]
    assert report["source_only_floor"]["sources"] == 1
    for row in report["methods"]:
        for path in ("as_published", "honest"):
            low, high = row[path]["interval"]
            assert 0 <= low <= row[path]["figure"] <= high <= 1
    leaky = {row["method"]: row["as_published"]["figure"] for row in report["methods"]}
    honest = {row["method"]: row["honest"]["figure"] for row in report["methods"]}
    assert np.mean(list(leaky.values())) > np.mean(list(honest.values()))


def test_an_unknown_method_is_refused_with_those_there_are(tmp_path):
    done = CliRunner().invoke(model, ["compare", "--manifest", str(tmp_path), "--method", "magic"])
    assert done.exit_code == 2
    assert "GA + SVM" in done.output


def test_the_genetic_algorithm_keeps_what_tells_classes_apart():
    from sklearn.svm import SVC  # noqa: PLC0415

    features, labels = blobs()
    chosen = GeneticSelection(SVC(), generations=12).fit(features[:120], labels[:120])
    assert chosen.chosen_[:3].sum() >= 2
    assert chosen.chosen_.mean() < 0.7
    assert (chosen.predict(features[120:]) == labels[120:]).mean() > 0.8


def test_grasshoppers_weigh_what_tells_classes_apart():
    from sklearn.svm import SVC  # noqa: PLC0415

    features, labels = blobs()
    found = GrasshopperWeights(SVC(), rounds=10).fit(features[:120], labels[:120])
    assert found.weights_[:3].mean() > found.weights_[5:].mean()
    assert (found.predict(features[120:]) == labels[120:]).mean() > 0.75
    places = np.random.default_rng(0).random((6, 4))
    best = np.full(4, 0.5)
    near, far = (np.abs(moved(places, best, zone=zone) - best).max() for zone in (1e-4, 1.0))
    assert near < 1e-3 < far


def test_sines_and_cosines_settle_on_the_best_place():
    rng = np.random.default_rng(1)
    best = np.array([-3.0, 4.0, 6.0])
    places = rng.uniform(-1, 1, (8, 3)) + best
    still = swung(places, best, amplitude=0.0, rng=rng)
    assert np.allclose(still, np.clip(places, [-3.7, 3, 5], [-2, 5, 7.5]))
    pictures = np.repeat(np.eye(2, dtype=np.float32)[np.arange(40) % 2], 1536, axis=1)
    found = SineCosineNetwork(agents=2, rounds=1, short=1, epochs=6).fit(pictures, np.arange(40) % 2)
    assert (found.predict(pictures) == np.arange(40) % 2).all()


def test_medoids_are_real_rows_and_carry_names():
    features, labels = blobs(noise=0)
    found = MedoidClassifier(clusters=2).fit(features[:120], labels[:120])
    assert all((features[:120] == medoid).all(axis=1).any() for medoid in found.medoids_)
    assert (found.predict(features[120:]) == labels[120:]).mean() > 0.8


def test_bands_hold_all_energy_and_blocks_cover_all_features():
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 256, (64, 64), dtype=np.uint8)
    energy = (10.0 ** stockwell_features(grey).astype(np.float64) - 1).sum()
    assert energy == pytest.approx(64**2 * ((grey - grey.mean()) ** 2).sum(), rel=1e-3)
    features = all_features(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8))
    assert len(features) == max(block.stop for block in BLOCKS.values())
    assert np.isfinite(features).all()


def test_shapes_of_a_drawn_nucleus():
    image = np.full((224, 224, 3), (220, 225, 230), np.uint8)
    cv2.circle(image, (112, 112), 60, (200, 150, 190), -1)
    cv2.circle(image, (112, 112), 40, (140, 40, 90), -1)
    count, area, eccentricity, solidity, _, roundness, lobes, *_, ratio, stained = shape_features(image)
    assert (count, lobes) == (1, 1)
    assert area == pytest.approx(np.pi * 40**2 / 224**2, rel=0.1)
    assert eccentricity < 0.2
    assert min(solidity, roundness) > 0.85
    assert stained == pytest.approx(np.pi * 60**2 / 224**2, rel=0.1)
    assert 0.6 < ratio < 1
    assert shape_features(np.full((64, 64, 3), 200, np.uint8)).max() == 0
