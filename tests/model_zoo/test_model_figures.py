"""Intervals, calibration and distance: the arithmetic behind every figure."""

import numpy as np
import pytest

from model_zoo.calibration import calibration_error, fit_temperature
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
