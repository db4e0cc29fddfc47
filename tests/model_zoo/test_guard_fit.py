"""The guard's arithmetic: what is promised of further groups holds for further groups."""

import numpy as np
import pytest

from model_zoo.acute import fit_acute_rule
from model_zoo.calibration import fit_set_thresholds, fit_temperature, group_quantile
from model_zoo.detector_fit import Population, cluster_names, fit_detector
from model_zoo.engines import Outputs
from model_zoo.errors import TrainingError
from model_zoo.guard import Evidence, GuardSettings, fit_guard
from model_zoo.intervals import auroc, clopper_pearson_upper, grouped_share
from model_zoo.labels import LABELS
from model_zoo.predictor import calibrated

BOUNDS = {"last": (0, 12), "early": (12, 20)}


def draw(groups, *, frames=4, seed=0, hard=0.08, classes=5, sharpness=2.5):
    """Logits of groups whose frames err together: a hard group is hard in every frame."""
    rng = np.random.default_rng(seed)
    truth = np.arange(groups) % classes
    difficult = rng.random(groups) < hard
    logits = rng.normal(0, 1.0, (groups, frames, 5))
    logits[np.arange(groups), :, truth] += np.where(difficult, 0.3, 5.0)[:, None]
    return (
        (sharpness * logits.reshape(-1, 5)).astype(np.float32),
        np.repeat(truth, frames),
        np.repeat(np.arange(groups), frames),
    )


def covered(thresholds, probabilities, labels):
    own = [thresholds.common if t is None else t for t in thresholds.by_class]
    return probabilities[np.arange(len(labels)), labels] >= np.asarray(own)[labels]


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_sets_cover_frames_of_further_groups_class_by_class(alpha):
    logits, labels, groups = draw(600)
    sets = fit_set_thresholds(calibrated(logits, 2.5), labels, groups, alpha=alpha, classes=LABELS)
    assert sets.method.endswith("by class")
    fresh, truth, _ = draw(2000, seed=1)
    hit = covered(sets, calibrated(fresh, 2.5), truth)
    for number in range(5):
        assert hit[truth == number].mean() >= 1 - alpha - 0.03


def test_frames_of_few_groups_do_not_count_as_many():
    scores, groups = np.arange(400, dtype=float), np.repeat(np.arange(4), 100)
    assert group_quantile(scores, groups, 0.95) == (399.0, False)
    limit, shown = group_quantile(np.arange(99.0), np.arange(99), 0.95)
    assert (limit, shown) == (94.0, True)


def test_too_few_groups_promise_less_and_say_so():
    logits, labels, groups = draw(30, frames=40)
    sets = fit_set_thresholds(calibrated(logits, 2.5), labels, groups, alpha=0.01, classes=LABELS)
    assert sets.alpha == pytest.approx(1 / 31)
    assert sets.method.endswith("marginal")
    assert "30 calibration groups allow" in sets.statement
    assert sets.common > 0


def test_classes_with_groups_enough_have_their_own_threshold_the_others_share_one():
    logits, labels, groups = draw(200)
    keep = (labels != 3) | (groups < 40)
    sets = fit_set_thresholds(
        calibrated(logits[keep], 2.5), labels[keep], groups[keep], alpha=0.05, classes=LABELS
    )
    assert sets.by_class[3] is None
    assert all(value is not None for number, value in enumerate(sets.by_class) if number != 3)
    assert "CLL" in sets.statement


def test_groups_without_an_error_do_not_make_the_model_certain():
    logits, labels, groups = draw(40, hard=0.0)
    assert fit_temperature(logits, labels, groups=groups) > 2 * fit_temperature(logits, labels)


def test_untrained_classes_have_no_probability():
    logits, labels, groups = draw(60, classes=3)
    trained = (True, True, True, False, False)
    found = calibrated(
        logits, fit_temperature(logits, labels, groups=groups, trained=trained), trained=trained
    )
    assert (found[:, 3:] == 0).all()
    assert found.sum(axis=1) == pytest.approx(1)


def test_the_acute_rule_keeps_the_miss_rate_on_further_groups():
    logits, labels, groups = draw(800, hard=0.3)
    rule = fit_acute_rule(calibrated(logits, 2.5), labels, groups, classes=LABELS)
    assert rule.shown
    assert rule.missed.value <= 0.02
    fresh, truth, _ = draw(4000, seed=2, hard=0.3)
    found = calibrated(fresh, 2.5)
    acute, mass = np.isin(truth, (1, 2)), found[:, 1:3].sum(axis=1)
    missed = ~np.isin(found.argmax(axis=1), (1, 2)) & (mass <= rule.threshold)
    assert missed[acute].mean() <= 0.025
    without = ~np.isin(found.argmax(axis=1), (1, 2))
    assert without[acute].mean() > 0.03  # the rule had something to do


def test_few_acute_groups_make_an_aim_and_no_promise():
    logits, labels, groups = draw(50)
    rule = fit_acute_rule(calibrated(logits, 2.5), labels, groups, classes=LABELS)
    assert not rule.shown
    assert rule.groups == 20
    assert "takes 49 groups" in rule.statement
    assert rule.upper_bound == pytest.approx(1 - 0.05 ** (1 / 20), abs=1e-3)


def features(count, *, seed, centre=0.0, spread=1.0):
    return np.random.default_rng(seed).normal(centre, spread, (count, 20)).astype(np.float32)


def population(count, *, seed, **shape):
    return Population(
        features(count, seed=seed, **shape), np.zeros(count, np.int64), np.arange(count), ["here"] * count
    )


def test_the_detector_accepts_what_it_promises_and_the_worse_block_counts():
    fitted = fit_detector(population(900, seed=0), population(400, seed=1), bounds=BOUNDS, classes=LABELS)
    assert fitted.shown
    fresh = features(4000, seed=2)
    assert (fitted.detector.score(fresh) <= 1).mean() == pytest.approx(0.95, abs=0.03)
    shifted = fresh.copy()
    shifted[:, 12:] += 5
    assert (fitted.detector.score(shifted) > 1).mean() > 0.99
    spoilt = fresh[:1].copy()
    spoilt[0, 0] = np.nan
    assert not fitted.detector.score(spoilt)[0] <= 1


def test_a_detector_promises_nothing_that_its_groups_do_not_bear():
    """A sixth of 6 % is 1 in 100, which takes 99 groups: with 60 it is an aim, and the statement names the 99."""
    for groups, shown in ((60, False), (98, False), (99, True)):
        fitted = fit_detector(
            population(900, seed=0), population(groups, seed=1), bounds=BOUNDS, classes=LABELS
        )
        assert fitted.shown is shown
    assert fitted.needed == 99


def test_what_lies_between_two_laboratories_is_outside():
    """One covariance over both would cover the space between them."""
    parts = [features(600, seed=seed, centre=place) for seed, place in ((0, -6.0), (1, 6.0))]
    sources = ["a"] * 600 + ["b"] * 600
    both = Population(np.concatenate(parts), np.zeros(1200, np.int64), np.arange(1200), sources)
    held = Population(
        np.concatenate([features(200, seed=3, centre=-6.0), features(200, seed=4, centre=6.0)]),
        np.zeros(400, np.int64),
        np.arange(400),
        ["a"] * 200 + ["b"] * 200,
    )
    fitted = fit_detector(both, held, bounds=BOUNDS, classes=LABELS)
    assert fitted.clusters == ("a/healthy", "b/healthy")
    assert (fitted.detector.score(features(500, seed=5)) > 1).mean() > 0.99


def test_a_single_group_in_each_cluster_still_gives_every_block_a_limit():
    def part(source, seed):
        drawn = np.random.default_rng(seed).normal(np.repeat([0, 2], 30)[:, None], 1, (60, 20))
        return Population(
            drawn.astype(np.float32), np.repeat([0, 1], 30), np.repeat([0, 1], 30), [source] * 60
        )

    fitted = fit_detector(part("a", 0), part("b", 1), bounds=BOUNDS, classes=LABELS)
    assert all(np.isfinite(block.limit) for block in fitted.detector.blocks)
    assert not fitted.shown
    far = np.zeros((3, 20), np.float32)
    far[:, slice(*BOUNDS["early"])] = 40
    assert (fitted.detector.score(far) > 1).all()


def test_small_clusters_join_their_source():
    names = cluster_names(np.array([0] * 30 + [1] * 5 + [2] * 25), ["x"] * 35 + ["y"] * 25, LABELS)
    assert set(names.tolist()) == {"x/healthy", "all", "y/AML"}


def evidence(count, *, seed, classes=5):
    logits, labels, groups = draw(count, frames=2, seed=seed, classes=classes)
    outputs = Outputs(logits, features(2 * count, seed=seed), np.zeros((2 * count, 0, 0, 0), np.float32))
    return Evidence(outputs, labels, groups, ["here"] * (2 * count))


def test_a_guard_needs_no_package():
    guard = fit_guard(
        evidence(200, seed=0, classes=3), evidence(100, seed=1, classes=3), labels=LABELS, bounds=BOUNDS
    )
    assert guard.rules.trained == (True, True, True, False, False)
    answers = guard.interpret(evidence(50, seed=2, classes=3).outputs)
    assert all(answer.probabilities[3] == answer.probabilities[4] == 0 for answer in answers)
    assert all(not {"CLL", "CML"} & set(answer.prediction_set) for answer in answers)
    assert {answer.ood_threshold for answer in answers} == {1.0}


def test_a_guard_without_calibration_or_with_strange_classes_is_refused():
    training, held = evidence(100, seed=0, classes=3), evidence(50, seed=1)
    with pytest.raises(TrainingError, match="calibration has frames of CLL, CML, and training none"):
        fit_guard(training, held, labels=LABELS, bounds=BOUNDS)
    empty = Evidence(Outputs(*(column[:0] for column in held.outputs)), held.labels[:0], held.groups[:0], [])
    with pytest.raises(TrainingError, match="no calibration frame"):
        fit_guard(training, empty, labels=LABELS, bounds=BOUNDS, settings=GuardSettings(alpha=0.1))


def test_intervals_of_the_checks():
    assert clopper_pearson_upper(0, 149) == pytest.approx(0.0199, abs=1e-4)
    assert clopper_pearson_upper(1, 20) == pytest.approx(0.2161, abs=1e-3)
    assert clopper_pearson_upper(5, 5) == clopper_pearson_upper(0, 0) == 1.0
    apart = auroc(np.zeros(50), np.ones(30), inside_groups=np.arange(50), outside_groups=np.arange(30))
    assert (apart.value, apart.high) == (1.0, 1.0)
    assert apart.low == pytest.approx(0.05 ** (1 / 30))
    level = auroc(np.ones(50), np.ones(30), inside_groups=np.arange(50), outside_groups=np.arange(30))
    assert (level.low, level.value, level.high) == (0, 0.5, 1)  # nothing but ties tells nothing
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(0, 1, 300), rng.normal(1, 1, 200)
    found = auroc(inside, outside, inside_groups=np.arange(300) // 3, outside_groups=np.arange(200))
    assert found.low < 0.76 < found.high
    wide = grouped_share(np.repeat([True, False], 50), np.arange(100) // 50)
    narrow = grouped_share(np.repeat([True, False], 50), np.arange(100))
    assert wide.high - wide.low > narrow.high - narrow.low
