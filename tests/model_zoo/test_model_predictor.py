"""The engines agree; the shipped networks know simulated smears, and know what they do not know."""

import cv2
import numpy as np
import pytest

from model_zoo.catalogue import SHIPPED
from model_zoo.errors import EngineError
from model_zoo.package import ModelPackage
from model_zoo.predictor import Predictor, calibrated
from model_zoo.preprocessing import Preprocessing
from smear_simulator import Microscope, population

NAMES = ("resnet34-simulated", "densenet121-simulated")
shipped = pytest.mark.parametrize("name", NAMES)


def probabilities(predictor, inputs):
    temperature = predictor.package.card.calibration.temperature
    parts = [inputs[first : first + 8] for first in range(0, len(inputs), 8)]
    return np.concatenate([calibrated(predictor.run(part).logits, temperature) for part in parts])


@pytest.mark.torch
@pytest.mark.timeout(300)  # torch alone takes a minute to come up on a loaded machine
@shipped
def test_engines_give_the_same_probabilities_at_fp32(serve, unseen, name):
    package = ModelPackage.load(SHIPPED / name)
    inputs = [prepared for prepared, _ in unseen[:8]]
    found = [
        probabilities(serve(package, engine=engine, precision="fp32"), inputs)
        for engine in ("openvino", "onnxruntime", "torch")
    ]
    assert np.ptp(np.stack(found), axis=0).max() < 1e-3


def agreement(serve, name, inputs):
    package = ModelPackage.load(SHIPPED / name)
    exact = probabilities(serve(package, engine="openvino", precision="fp32"), inputs).argmax(axis=1)
    fast = probabilities(serve(package, engine="openvino", precision="bf16"), inputs).argmax(axis=1)
    return float((exact == fast).mean())


@shipped
def test_bf16_calls_the_same_class(serve, unseen, name):
    assert agreement(serve, name, [prepared for prepared, _ in unseen]) >= 0.98


@pytest.mark.slow
@pytest.mark.timeout(900)
@shipped
def test_bf16_calls_the_same_class_over_a_thousand_frames(serve, many_unseen, name):
    assert agreement(serve, name, [prepared for prepared, _ in many_unseen]) >= 0.995


@shipped
def test_patients_never_seen_are_classified(serve, unseen, name):
    predictor = serve(ModelPackage.load(SHIPPED / name))
    answers = [
        a for first in range(0, 60, 8) for a in predictor.infer([p for p, _ in unseen[first : first + 8]])
    ]
    right = [answer.prediction == disease for answer, (_, disease) in zip(answers, unseen, strict=True)]
    assert np.mean(right) >= 0.9
    reported = [answer for answer in answers if answer.decision == "report"]
    assert len(reported) >= 45
    for answer in answers:
        assert sum(answer.probabilities) == pytest.approx(1, abs=1e-6)
        assert answer.prediction == predictor.package.labels[int(np.argmax(answer.probabilities))]
        assert np.shape(answer.activation) == (7, 7)
        assert 0 <= np.min(answer.activation) <= np.max(answer.activation) == 1
        assert (answer.decision == "report") == (not answer.reasons)
    for answer in reported:
        assert answer.prediction_set == (answer.prediction,)
        assert answer.ood_score <= answer.ood_threshold


@shipped
def test_where_the_network_looks_there_are_white_cells(serve, name):
    """The hottest place of the map lies on a white cell more often than chance would have it."""
    predictor = serve(ModelPackage.load(SHIPPED / name))
    hits, shares = [], []
    for patient in population(20, seed=977_002):
        field = Microscope(patient, seed=1).capture()
        [answer] = predictor.predict([field.image])
        covered = cv2.resize(field.truth.white_cell_mask, (7, 7), interpolation=cv2.INTER_AREA) / 255.0
        row, column = np.unravel_index(np.argmax(answer.activation), (7, 7))
        hits.append(covered[row, column] > 0.1)
        shares.append((covered > 0.1).mean())
    assert np.mean(hits) > np.mean(shares) + 0.2


def strange_frames():
    rng = np.random.default_rng(0)
    field = Microscope(population(5, seed=977_003)[0], seed=1).capture().image
    return {
        "blank": np.full((480, 640, 3), 235, np.uint8),
        "black": np.zeros((480, 640, 3), np.uint8),
        "noise": rng.integers(0, 256, (480, 640, 3), dtype=np.uint8),
        "blurred": cv2.GaussianBlur(field, (0, 0), 12),
        "inverted": 255 - field,
        "channels swapped": np.ascontiguousarray(field[:, :, ::-1]),
    }


@shipped
def test_strange_frames_are_referred(serve, name):
    predictor = serve(ModelPackage.load(SHIPPED / name))
    for kind, image in strange_frames().items():
        [answer] = predictor.predict([image])
        assert answer.decision == "refer", kind
        assert any(reason.startswith("out_of_distribution: ") for reason in answer.reasons), kind


@shipped
def test_real_frames_are_referred_as_outside(serve, real_frames, name):
    predictor = serve(ModelPackage.load(SHIPPED / name))
    answers = predictor.predict(real_frames)
    outside = [a for a in answers if any(r.startswith("out_of_distribution") for r in a.reasons)]
    assert len(outside) == len(answers)


@shipped
def test_frames_of_any_size_are_taken(serve, name):
    predictor = serve(ModelPackage.load(SHIPPED / name), max_batch_size=2)
    images = [np.full(shape, 200, np.uint8) for shape in ((64, 48, 3), (1944, 2592, 3), (224, 224, 3))]
    assert len(predictor.predict(images)) == 3
    assert all(predictor.prepare(image).shape == (3, 224, 224) for image in images)


def test_misuse_is_told_apart(made):
    inputs = [Preprocessing().prepare(np.zeros((224, 224, 3), np.uint8))] * 9
    with pytest.raises(EngineError, match="start"):
        Predictor(made).infer(inputs[:1])
    for engine, precision in (("openvino", "fp16"), ("onnxruntime", "bf16"), ("abacus", "auto")):
        with pytest.raises(EngineError, match="choose"):
            Predictor(made, engine=engine, precision=precision)
    predictor = Predictor(made, engine="onnxruntime")
    predictor.start()
    for batch in ([], inputs):
        with pytest.raises(EngineError, match="1 to 8"):
            predictor.infer(batch)
    predictor.stop()
    with pytest.raises(EngineError, match="start"):
        predictor.infer(inputs[:1])
