"""`hemolink model ...`, through the command line."""

import json

import cv2
import numpy as np
import pytest
import timm
from click.testing import CliRunner

from model_zoo.commands import model
from smear_simulator import Microscope, population, write_dataset


def invoke(*arguments, code=0):
    done = CliRunner().invoke(model, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def last_json(done):
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "field.jpg"
    cv2.imwrite(str(path), Microscope(population(5, seed=977_004)[0]).capture().image)
    return path


def test_list_names_every_package(package_copy):
    (row,) = [
        r for r in last_json(invoke("list", "--path", package_copy.parent, "--json")) if r["name"] == "tiny"
    ]
    assert row["usable"]
    assert row["simulated"]
    (package_copy / "graph.onnx").write_bytes(b"")
    (row,) = [
        r for r in last_json(invoke("list", "--path", package_copy.parent, "--json")) if r["name"] == "tiny"
    ]
    assert not row["usable"]
    assert "graph.onnx" in row["error"]
    assert "NOT USABLE" in invoke("list", "--path", package_copy.parent).output


def test_predict_ends_with_one_json_array(made, frame):
    (entry,) = last_json(invoke("predict", frame, "--model", made.path, "--json"))
    assert {"path", "probabilities", "prediction", "decision", "reasons", "ood_score", "model"} <= set(entry)
    assert entry["path"] == str(frame)
    assert list(entry["probabilities"]) == ["healthy", "ALL", "AML", "CLL", "CML"]
    assert sum(entry["probabilities"].values()) == pytest.approx(1)
    assert entry["decision"] in ("report", "refer")
    assert entry["error"] is None


def test_bad_files_are_named_and_the_others_still_predicted(made, frame, tmp_path):
    data = frame.read_bytes()
    bad = {
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (data[: len(data) // 2], "end early"),
        "text.png": (b"hello, this is text", "not a JPEG, PNG or WebP"),
        "giant.jpg": (
            b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + b"\0" * 40,
            "limit of 64,000,000",
        ),
        "missing.jpg": (None, "no such file"),
    }
    for name, (content, _) in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in bad]
    done = invoke("predict", *paths, frame, "--model", made.path, "--json", code=1)
    entries = last_json(done)
    assert [entry["path"] for entry in entries] == [str(path) for path in (*paths, frame)]
    for entry, (_, words) in zip(entries, bad.values(), strict=False):
        assert entry["prediction"] is None
        assert entry["path"] in entry["error"]
        assert words in entry["error"]
        assert ": " in entry["error"]
    assert entries[-1]["prediction"] is not None
    (tmp_path / "patients" / "p1").mkdir(parents=True)
    (tmp_path / "patients" / "p1" / "cell.bmp").write_bytes(b"")
    folders = (tmp_path / "patients", tmp_path / "patients" / "p1")
    plain = invoke("predict", *paths, *folders, frame, "--model", made.path, code=1)
    assert plain.output.count("ERROR") == len(bad) + len(folders)
    assert plain.output.count("this folder holds no image") == len(folders)


def test_faults_of_package_and_engine_are_one_line(made, frame):
    done = invoke("predict", frame, "--model", "nosuch", code=1)
    assert "no model package called 'nosuch'" in done.output
    done = invoke(
        "predict", frame, "--model", made.path, "--engine", "onnxruntime", "--precision", "bf16", code=1
    )
    assert "choose fp32" in done.output


@pytest.mark.torch
def test_verify_compares_files_and_engines(made, package_copy):
    (result,) = last_json(invoke("verify", made.path, "--json"))
    assert result["passed"], result
    assert {"files", "labels", "graph", "agreement", "guard"} <= {check["name"] for check in result["checks"]}
    (package_copy / "model.safetensors").write_bytes(b"\x80\x04junk")
    done = invoke("verify", package_copy, code=1)
    assert "FAILED" in done.output


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_train_package_and_evaluate_from_start_to_end(tmp_path):
    run = tmp_path / "run"
    quick = ("--epochs", 1, "--samples", 16, "--cell-epochs", 1, "--cell-samples", 32)
    done = invoke(
        "train", "--run", run, "--patients", 30, "--frames", 1, "--from-scratch", "--json", *quick, "--quiet"
    )
    assert [entry["stage"] for entry in last_json(done)["history"]] == ["cells", "fields"]
    done = invoke(
        "package",
        "--run",
        run,
        "--name",
        "quick",
        "--out",
        tmp_path,
        "--no-baseline",
        "--strange",
        1,
        "--json",
    )
    assert last_json(done)["card"]["simulated"] is True
    write_dataset(tmp_path / "data", patients=5, frames=1, seed=99)
    done = invoke("evaluate", "--model", tmp_path / "quick", "--data", tmp_path / "data", "--json")
    figures = last_json(done)
    assert np.sum(figures["confusion"]) == 5
    assert "SIMULATED" in figures["statement"]
    table = invoke("evaluate", "--model", tmp_path / "quick", "--run", run).output
    assert "baseline, macro accuracy" in table
    assert "confusion, rows truth" in table


def test_train_without_weights_or_flag_names_the_flag(tmp_path, monkeypatch):
    create = timm.create_model

    def offline(name, *, pretrained=False, **options):
        if pretrained:
            raise OSError("Network is unreachable")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    done = invoke("train", "--run", tmp_path, "--patients", 30, "--frames", 1, "--quiet", code=1)
    assert "--from-scratch" in done.output
    assert not (tmp_path / "checkpoint.json").exists()
