"""A guard in a package: cards of the first version still load, weights can be kept, and the acute rule is obeyed."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model_zoo.card import read_card
from model_zoo.detector import Detector
from model_zoo.engines import Outputs
from model_zoo.errors import IntegrityError, PackageError, TrainingError
from model_zoo.package import ModelPackage, file_sha256
from model_zoo.packaging import PackageSettings, build_package, write_card
from model_zoo.predictor import interpret

pytestmark = pytest.mark.torch


@pytest.fixture
def first_version(package_copy):
    """The package as the first release wrote it: one Gaussian a block, its arrays among the weights, no acute rule."""
    rng = np.random.default_rng(0)
    tensors = load_file(package_copy / "model.safetensors")
    directions = np.linalg.qr(rng.normal(size=(512, 16)))[0]
    deviations = rng.uniform(0.5, 2.0, 16)
    tensors |= {
        "ood.last.mean": rng.normal(size=512).astype(np.float32),
        "ood.last.scale": rng.uniform(0.5, 2.0, 512).astype(np.float32),
        "ood.last.components": (directions / deviations).astype(np.float32),
    }
    save_file(tensors, package_copy / "model.safetensors")
    (package_copy / "guard.safetensors").unlink()
    raw = json.loads((package_copy / "card.json").read_text())
    for name in ("acute", "guard", "expectation", "finer", "activation"):
        raw.pop(name, None)
    raw["schema_version"] = "1"
    raw["training_data"].pop("classes")
    raw["calibration"] = {
        "temperature": 1.3,
        "set_threshold": 0.2,
        "set_alpha": 0.01,
        "set_method": "split-conformal, marginal",
        "frames": 8,
        "patients": 8,
    }
    block = {"name": "last", "start": 0, "stop": 512, "residual_scale": 3.0, "limit": 1.5}
    raw["out_of_distribution"] = {
        "method": "mahalanobis, largest of blocks",
        "threshold": 0.99,
        "acceptance": 0.95,
        "blocks": [block],
    }
    raw["files"] = {name: file_sha256(package_copy / name) for name in ("model.safetensors", "graph.onnx")}
    (package_copy / "card.json").write_text(json.dumps(raw))
    return package_copy, tensors, deviations


def test_a_package_of_the_first_version_scores_as_it_did(first_version):
    folder, tensors, _ = first_version
    package = ModelPackage.load(folder)
    assert all(package.card.trained)
    features = np.random.default_rng(1).normal(size=(5, 896)).astype(np.float32)
    standard = (features[:, :512] - tensors["ood.last.mean"]) / tensors["ood.last.scale"]
    white = standard @ tensors["ood.last.components"]
    inside = (white**2 / (tensors["ood.last.components"] ** 2).sum(axis=0)).sum(axis=1)
    residual = ((standard**2).sum(axis=1) - inside) / 3.0
    wanted = np.sqrt(((white**2).mean(axis=1) + residual) / 2) / 1.5
    assert Detector.from_package(package).score(features) == pytest.approx(wanted, rel=1e-4)


def test_arrays_that_are_missing_or_do_not_fit_are_refused(made, package_copy):
    tensors = load_file(package_copy / "guard.safetensors")

    def rewritten(changed):
        save_file(changed, package_copy / "guard.safetensors")
        card = read_card(package_copy)
        files = card.files | {"guard.safetensors": file_sha256(package_copy / "guard.safetensors")}
        write_card(card.model_copy(update={"files": files}), package_copy)
        return ModelPackage.load(package_copy)

    broken = rewritten({name: array for name, array in tensors.items() if name != "ood.early.centres"})
    with pytest.raises(IntegrityError, match=r"ood\.early\.centres"):
        Detector.from_package(broken)
    broken = rewritten(tensors | {"ood.early.components": tensors["ood.early.components"][:-1].copy()})
    with pytest.raises(PackageError, match=r"block early .* do not fit"):
        Detector.from_package(broken)


def test_thresholds_anew_leave_kept_weights_as_they_are(made, store, tmp_path):
    settings = PackageSettings("again", alpha=0.3, strange=0)
    run, weights = made.path.parent / "run", made.weights_path
    again = build_package(run, store, tmp_path / "again", settings=settings, weights=weights)
    assert again.weights_sha256 == made.weights_sha256
    assert again.card.calibration.set_alpha != made.card.calibration.set_alpha
    assert again.card.guard.outside == ()
    other = tmp_path / "other.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"network.head.bias": tensors["network.head.bias"] + 1}, other)
    with pytest.raises(TrainingError, match="holds another network"):
        build_package(run, store, tmp_path / "o", settings=settings, weights=other)
    assert not list(tmp_path.glob(".*"))  # of what failed nothing stays


def test_what_may_be_acute_is_never_reported_as_something_else(made):
    card = made.card
    rule = card.acute.model_copy(update={"threshold": 0.05})
    rules = card.model_copy(update={"acute": rule}).rules
    sure = card.calibration.model_copy(
        update={"temperature": 1.0, "set_threshold": 0.5, "set_thresholds": ()}
    )
    rules = type(rules)(rules.labels, rules.trained, sure, rules.out_of_distribution, rules.acute)
    odds = np.array(
        [[0.90, 0.06, 0.02, 0.01, 0.01], [0.97, 0.02, 0.004, 0.003, 0.003], [0.03, 0.95, 0.01, 0, 0]]
    )
    blocks = card.out_of_distribution.blocks
    features = np.zeros((3, blocks[-1].stop), np.float32)
    outputs = Outputs(np.log(odds + 1e-9).astype(np.float32), features, np.zeros((3, 5, 1, 1), np.float32))

    class Inside:
        def score(self, features):
            return np.zeros(len(features), np.float32)

    doubtful, healthy, acute = interpret(outputs, rules, Inside())
    assert doubtful.prediction_set == ("healthy",)
    assert doubtful.decision == "refer"
    (reason,) = doubtful.reasons
    assert reason.startswith("acute_not_excluded: ALL or AML has a probability of 0.08")
    assert (healthy.decision, healthy.reasons) == ("report", ())
    assert (acute.decision, acute.prediction) == ("report", "ALL")


def test_a_package_is_not_touched_by_a_guard_file_that_its_card_does_not_name(package_copy):
    card = read_card(package_copy)
    files = {name: value for name, value in card.files.items() if name != "guard.safetensors"}
    write_card(card.model_copy(update={"files": files}), package_copy)
    with pytest.raises(IntegrityError, match="states no SHA-256"):
        ModelPackage.load(package_copy)
    shutil.rmtree(package_copy)
