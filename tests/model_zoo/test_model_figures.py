"""Intervals, calibration and distance: the arithmetic behind every figure."""

import numpy as np
import pytest

from model_zoo.calibration import calibration_error, fit_set_threshold, fit_temperature
from model_zoo.distance import BlockDistance, FeatureDistance
from model_zoo.evaluation import macro_accuracy
from model_zoo.intervals import patient_confusions, proportion, wilson
from model_zoo.predictor import calibrated


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 8, 0.0, 0.3244), (8, 8, 0.6756, 1.0), (50, 100, 0.4038, 0.5962), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals(hits, n, low, high):
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-3)
    assert proportion(hits, n).n == n


def test_macro_accuracy_is_the_mean_of_recalls_with_patients_resampled():
    truth = np.array([0] * 90 + [1] * 10)
    predicted = np.array([0] * 90 + [1] * 5 + [0] * 5)
    by_frame = macro_accuracy(patient_confusions(truth, predicted, np.arange(100), classes=2))
    by_patient = macro_accuracy(patient_confusions(truth, predicted, np.arange(100) // 5, classes=2))
    assert by_frame.value == by_patient.value == pytest.approx(0.75)
    assert by_patient.high - by_patient.low > by_frame.high - by_frame.low
    assert by_patient.n == 20


def test_no_error_at_all_still_has_an_interval():
    truth = np.repeat(np.arange(5), 8)
    perfect = macro_accuracy(patient_confusions(truth, truth, np.arange(40), classes=5))
    assert perfect.value == 1
    assert perfect.low < 0.92


def draw(n, *, sharpness, seed=0):
    """Logits of which the softmax is true, times a factor that makes them overconfident."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 5)).astype(np.float32)
    p = calibrated(logits, 1.0)
    labels = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return (logits * sharpness).astype(np.float32), labels


def test_temperature_undoes_overconfidence():
    logits, labels = draw(6000, sharpness=3.0)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(3.0, rel=0.1)
    assert calibration_error(calibrated(logits, temperature), labels) < 0.03
    assert calibration_error(calibrated(logits, 1.0), labels) > 0.15


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_prediction_sets_cover_fresh_frames(alpha):
    logits, labels = draw(2000, sharpness=1.0)
    threshold = fit_set_threshold(calibrated(logits, 1.0), labels, alpha=alpha)
    fresh, truth = draw(4000, sharpness=1.0, seed=1)
    covered = calibrated(fresh, 1.0)[np.arange(4000), truth] >= threshold
    assert covered.mean() >= 1 - alpha - 0.02


def test_too_few_calibration_frames_exclude_nothing():
    logits, labels = draw(10, sharpness=1.0)
    assert fit_set_threshold(calibrated(logits, 1.0), labels, alpha=0.02) == 0.0


def test_distance_grows_off_the_training_features_in_every_direction():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(8, 40))
    features = (rng.normal(size=(2000, 8)) @ mixing + 0.05 * rng.normal(size=(2000, 40))).astype(np.float32)
    distance = BlockDistance.fit(features[:1500], dimensions=8)
    inside = distance.score(features[1500:])
    assert inside.mean() == pytest.approx(1, abs=0.15)
    along = distance.score(4 * features[1500:])
    aside = distance.score(features[1500:] + rng.normal(size=(500, 40)).astype(np.float32))
    assert along.mean() > 2
    assert aside.mean() > 2


def test_the_worse_block_counts():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(1200, 50)).astype(np.float32)
    distance = FeatureDistance.fit(
        features[:1000], features[1000:], bounds={"last": (0, 40), "early": (40, 50)}, dimensions=4
    )
    assert np.quantile(distance.score(features[1000:]), 0.95) == pytest.approx(1, abs=0.1)
    shifted = features[1000:].copy()
    shifted[:, 40:] += 4
    assert distance.score(shifted).min() > 1.5
    assert min(distance.tensors()) == "ood.early.components"
