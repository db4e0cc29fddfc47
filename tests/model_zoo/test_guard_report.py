"""The guard through the command line: what evaluate and guard-check say of it, and images that cannot be used."""

import csv
import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from model_zoo.card import SEEN_DIGITS, Expectation, read_card
from model_zoo.commands import model
from model_zoo.packaging import write_card
from smear_simulator import write_dataset

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]


def invoke(*arguments, code=0):
    done = CliRunner().invoke(model, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


def last_json(done):
    return json.loads(done.stdout.strip().splitlines()[-1])


def listed(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Twelve simulated patients, of whom the last two are said to come from elsewhere."""
    folder = tmp_path_factory.mktemp("guard") / "data"
    write_dataset(folder, patients=12, frames=1, seed=43, width=320, height=240)
    rows = listed(folder / "manifest.csv")
    for row in rows[-2:]:
        row["source"] = "elsewhere"
    rewrite(folder / "manifest.csv", rows)
    return folder


@pytest.fixture(scope="module")
def report(made, frames):
    out = frames.parent / "out"
    options = ("--explanations", 0, "--strange", 3, "--quiet", "--json")
    done = invoke("evaluate", "--model", made.path, "--manifest", frames, "--out", out, *options)
    return last_json(done), (out / "index.html").read_text(encoding="utf-8")


def test_the_report_shows_what_the_package_obeys_and_what_came_of_it(report):
    found, page = report
    kinds = [row["kind"] for row in found["guard"]["outside"]]
    assert "blank" in kinds
    assert "magnification x2" in kinds
    assert kinds[-1] == "frames of elsewhere"
    assert found["guard"]["calibration_error"]["n"] == 10
    assert found["guard"]["calibration_floor"] > 0.02  # ten frames say little
    for section in ("acute", "promised", "distance", "thresholds"):
        assert f'id="{section}"' in page
    assert "is never reported as another class" in page
    assert "an aim: too few groups to promise it" in page
    assert "Same sources, new patients" in page
    assert "neither expectation is meant for such a mixture" in page
    assert found["promised"]["rows"][0]["found"] is None
    assert found["thresholds"]["detector"]["threshold"] == 1


def test_an_expectation_is_held_against_what_was_found(made, frames, tmp_path):
    rows = [{**row, "path": str(frames / row["path"])} for row in listed(frames / "manifest.csv")]
    rewrite(tmp_path / "manifest.csv", [row for row in rows if row["source"] == "simulated"])
    copy = shutil.copytree(made.path, tmp_path / "sure")
    card = read_card(copy)
    sure = card.expectation.inside.referred.model_copy(update={"value": 0.0, "low": 0.0, "high": 0.01})
    inside = card.expectation.inside.model_copy(update={"referred": sure})
    write_card(card.model_copy(update={"expectation": Expectation(inside=inside)}), copy)
    options = ("--explanations", 0, "--strange", 0, "--quiet", "--json")
    found = last_json(
        invoke("evaluate", "--model", copy, "--manifest", tmp_path, "--out", tmp_path / "out", *options)
    )
    (row,) = found["promised"]["rows"]
    referred = row["found"]["referred"]
    low, high = referred["interval"]
    assert low <= referred["value"] <= high
    assert (referred["verdict"] == "NOT as expected") == (low > 0.01)
    assert referred["verdict"] != "as expected"  # a network that has learnt nothing refers nearly everything


def test_guard_check_by_manifest_and_by_simulator(made, frames, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    cv2.imwrite(str(folder / "flat.png"), np.full((200, 300, 3), 128, np.uint8))
    options = ("--model", made.path, "--strange", 2, "--outside", folder, "--quiet")
    found = last_json(invoke("guard-check", *options, "--manifest", frames, "--json"))["tiny"]
    assert [row["kind"] for row in found["outside"]][-2:] == ["frames of elsewhere", "frames of odd"]
    assert found["accepted"]["n"] == 10
    # a frame that the package was calibrated on says nothing of its promises
    copy = shutil.copytree(made.path, tmp_path / "knows")
    card = read_card(copy)
    first = hashlib.sha256((frames / listed(frames / "manifest.csv")[0]["path"]).read_bytes()).hexdigest()
    known = card.training_data.model_copy(update={"seen": (first[:SEEN_DIGITS],)})
    write_card(card.model_copy(update={"training_data": known}), copy)
    knowing = ("--model", copy, *options[2:], "--manifest", frames, "--json")
    (fewer,) = last_json(invoke("guard-check", *knowing)).values()
    assert fewer["accepted"]["n"] == 9
    assert "1 frames are left out of every figure" in fewer["statement"]
    text = invoke("guard-check", *options, "--patients", 20).output
    for words in (
        "SIMULATED",
        "expected calibration error",
        "out of focus by 12 micrometres",
        "frames of odd",
    ):
        assert words in text
    (folder / "flat.png").write_bytes(b"no image")
    assert "flat.png cannot be read" in invoke("guard-check", *options, code=1).output


def test_a_class_never_trained_is_said_and_never_named(made, frames, tmp_path):
    copy = shutil.copytree(made.path, tmp_path / "three")
    card = read_card(copy)
    known = card.training_data.model_copy(update={"classes": ("healthy", "ALL", "AML")})
    write_card(card.model_copy(update={"training_data": known}), copy)
    options = ("--explanations", 0, "--strange", 0, "--quiet", "--json")
    found = last_json(
        invoke("evaluate", "--model", copy, "--manifest", frames, "--out", tmp_path / "out", *options)
    )
    assert {row[3] + row[4] for row in found["confusion"]} == {0}
    assert sum("never trained on" in said for said in found["limits"]) == 2
    assert "Not trained: CLL, CML." in (tmp_path / "out/index.html").read_text(encoding="utf-8")


def spoil(path, kind):
    image = cv2.imread(str(path))
    path = path.with_suffix(".png")
    if kind == "grey":
        cv2.imwrite(str(path), image[:, :, 0])
    elif kind == "alpha":
        cv2.imwrite(str(path), np.dstack([image, np.full(image.shape[:2], 90, np.uint8)]))
    elif kind == "sixteen bit":
        cv2.imwrite(str(path), image.astype(np.uint16) * 257)
    elif kind == "cut short":
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes()[:2000])
    else:
        path.write_bytes(b"")
    return path.name


@pytest.mark.parametrize("kind", ["grey", "alpha", "sixteen bit", "cut short", "empty"])
def test_an_image_that_cannot_be_used_is_named(made, frames, tmp_path, kind):
    rows = [{**row, "path": str(frames / row["path"])} for row in listed(frames / "manifest.csv")]
    bad = tmp_path / "field.jpg"
    shutil.copy(rows[4]["path"], bad)
    rows[4] = {**rows[4], "path": str(tmp_path / spoil(bad, kind)), "sha256": ""}
    rewrite(tmp_path / "manifest.csv", rows)
    for command in (("evaluate", "--out", tmp_path / "o"), ("guard-check",)):
        done = invoke(*command, "--model", made.path, "--manifest", tmp_path, "--quiet", code=1)
        assert "field.png" in done.output
        assert len(done.output.strip().splitlines()) <= 3
    assert not (tmp_path / "o").exists()


def test_one_group_is_reported_and_compared_with_nothing(made, frames, tmp_path):
    rows = [{**row, "path": str(frames / row["path"])} for row in listed(frames / "manifest.csv")][:1]
    rewrite(tmp_path / "manifest.csv", rows)
    options = ("--model", made.path, "--manifest", tmp_path, "--quiet")
    done = invoke("evaluate", *options, "--out", tmp_path / "out", "--explanations", 0, "--json")
    assert last_json(done)["guard"] is None
    assert "there is nothing to compare these frames with" in (tmp_path / "out/index.html").read_text()
    assert "fewer than 2 groups" in invoke("guard-check", *options, code=1).output


def test_a_real_package_is_not_tried_on_simulated_frames(made, tmp_path):
    copy = shutil.copytree(made.path, tmp_path / "real")
    write_card(read_card(copy).model_copy(update={"simulated": False}), copy)
    done = invoke("guard-check", "--model", copy, "--quiet", code=1)
    assert "give a --manifest" in done.output
