"""A package is used only if it is whole, known and holds no pickle."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from model_zoo.catalogue import SHIPPED, find_package, list_packages
from model_zoo.errors import CardError, IntegrityError, PackageNotFoundError, UnsafePackageError
from model_zoo.package import ModelPackage, file_sha256
from model_zoo.verification import verify_package

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[2]


def edit_card(folder, **changes):
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_package_loads(made):
    package = ModelPackage.load(made.path)
    assert package.labels == ("healthy", "ALL", "AML", "CLL", "CML")
    assert len(package.weights_sha256) == 64
    assert package.card.simulated
    assert "SIMULATED" in package.card.training_data.statement
    assert "SIMULATED" in package.card.metrics.statement
    assert sorted(path.name for path in made.path.iterdir()) == [
        "card.json",
        "graph.onnx",
        "guard.safetensors",
        "model.safetensors",
    ]


def test_the_graph_holds_no_weights_and_nothing_of_the_machine(made):
    assert made.graph_path.stat().st_size < 1_000_000
    graph = onnx.load(str(made.graph_path), load_external_data=False).graph
    outside = [t for t in graph.initializer if t.external_data]
    assert len(outside) == 182
    assert all(t.data_type == onnx.TensorProto.FLOAT16 for t in outside)
    assert [output.name for output in graph.output] == ["logits", "features", "activation"]
    assert b"site-packages" not in made.graph_path.read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "graph.onnx", "guard.safetensors"])
def test_a_changed_file_is_refused(package_copy, name):
    data = bytearray((package_copy / name).read_bytes())
    data[-1] ^= 1
    (package_copy / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=f"{name} has SHA-256 .*fetch the package again"):
        ModelPackage.load(package_copy)


@pytest.mark.parametrize("name", ["model.safetensors", "graph.onnx", "guard.safetensors"])
def test_a_missing_file_is_named(package_copy, name):
    (package_copy / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        ModelPackage.load(package_copy)


class Trap:
    """Unpickling it would leave a trace."""

    def __reduce__(self):
        return (Path.touch, (Path("pickle-was-run"),))


@pytest.mark.parametrize(
    "name", ["weights.pt", "notes.txt", "model.safetensors", "guard.safetensors", "sub/extra.pkl"]
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_refused_whatever_its_name(package_copy, tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    target = package_copy / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(pickle.dumps(Trap(), protocol=protocol))
    with pytest.raises(UnsafePackageError, match="pickle"):
        ModelPackage.load(package_copy)
    assert not (tmp_path / "pickle-was-run").exists()


def test_a_graph_that_points_elsewhere_is_refused(package_copy):
    model = onnx.load(str(package_copy / "graph.onnx"), load_external_data=False)
    next(t for t in model.graph.initializer if t.external_data).external_data[0].value = "../secret"
    (package_copy / "graph.onnx").write_bytes(model.SerializeToString())
    card = json.loads((package_copy / "card.json").read_text())
    edit_card(package_copy, files=card["files"] | {"graph.onnx": file_sha256(package_copy / "graph.onnx")})
    check = next(
        check for check in verify_package(package_copy, engines=["onnxruntime"]) if check.name == "graph"
    )
    assert not check.passed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": "4"}, "schema version '4'; this release reads 1, 2, 3: upgrade"),
        ({"surprise": 1}, "not valid at surprise"),
        ({"labels": "all"}, "not valid at labels"),
    ],
)
def test_a_card_that_is_not_understood_is_refused(package_copy, changes, words):
    edit_card(package_copy, **changes)
    with pytest.raises(CardError, match=words):
        ModelPackage.load(package_copy)


def test_a_card_that_is_no_json_or_missing_is_refused(package_copy):
    (package_copy / "card.json").write_text("{")
    with pytest.raises(CardError, match="cannot be read as JSON"):
        ModelPackage.load(package_copy)
    (package_copy / "card.json").unlink()
    with pytest.raises(CardError, match="is missing"):
        ModelPackage.load(package_copy)


def test_packages_are_found_by_name_path_and_search_path(made, package_copy):
    assert find_package(made.path).name == "tiny"
    assert find_package("tiny", [package_copy.parent]).path == package_copy
    assert "tiny" in {package.name for package in list_packages([package_copy])}
    with pytest.raises(PackageNotFoundError, match=r"'nosuch'.*there are"):
        find_package("nosuch")


def test_a_damaged_package_is_left_out_of_the_list(package_copy):
    (package_copy / "graph.onnx").unlink()
    assert "tiny" not in {package.name for package in list_packages([package_copy])}
    assert not verify_package(package_copy)[0].passed


def test_both_networks_are_shipped_whole_and_small():
    folders = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
    assert {"resnet34-simulated", "densenet121-simulated"} <= set(folders)
    total = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    assert total < 60_000_000
    for name in folders:
        package = ModelPackage.load(SHIPPED / name)
        assert package.card.simulated
        assert package.card.metrics.macro_accuracy.value >= 0.95
        assert package.card.metrics.frames >= 1000
        assert package.card.metrics.patients >= 100
        assert package.card.metrics.baseline_macro_accuracy.value < 0.90


def test_serving_imports_no_training_library():
    code = (
        "import sys, model_zoo.predictor, model_zoo.catalogue, model_zoo.image, model_zoo.commands; "
        "print({'torch', 'timm', 'sklearn', 'onnx', 'openvino', 'onnxruntime', 'smear_simulator'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
