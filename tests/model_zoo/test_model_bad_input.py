"""What a laboratory may get wrong in a manifest, through the command line: one message with the thing, the cause and the remedy."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from model_zoo.commands import model
from model_zoo.datasets.manifest import read_manifest
from smear_simulator import Microscope, population

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

HEAD = "path,label,patient"


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """Twelve images of twelve patients, half of them ALL."""
    folder = tmp_path_factory.mktemp("lab")
    for number, patient in enumerate(population(12, seed=977_050)):
        image = Microscope(patient, seed=7).capture().image
        cv2.imwrite(str(folder / f"{number}.png"), image)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(folder / "grey.png"), grey)
    cv2.imwrite(str(folder / "clear.png"), np.dstack([image, np.full(grey.shape, 9, np.uint8)]))
    cv2.imwrite(str(folder / "deep.png"), image.astype(np.uint16) * 256)
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:900])
    return folder


def rows(*, label=lambda n: ("healthy", "ALL")[n % 2], patient=str, count=12):
    return [f"{n}.png,{label(n)},p{patient(n)}" for n in range(count)]


GOOD = rows()
FAULTS = {
    "label": ([*GOOD, "x.png,lymphoma,p9"], "line 14: label 'lymphoma' is none of healthy, .* --label"),
    "label in another case": ([*GOOD, "x.png,all,p9"], "line 14: label 'all' is none of"),
    "zero byte": ([*GOOD, "x\0.png,ALL,p9"], "holds a zero byte: save it as"),
    "no label": (["0.png,,p1"], r"no labelled image \(1 rows, none with a label\): fill in the column"),
    "empty": ([], "no labelled image"),
    "augmented": ([*GOOD, "0_hflip.png,ALL,p1"], "line 14: 0_hflip.png looks like an augmented copy"),
    "twice": ([*GOOD, "./3.png,ALL,p3"], "line 14: 3.png is listed on line 5 already: keep one row"),
    "two labels": ([*GOOD, "3.png,AML,p3"], "line 14: .* once as ALL and once as AML: find out"),
    "moved": ([*GOOD, "gone/3.png,ALL,p3"], "1 of the 13 images .* are not there .*moved"),
    "no path": ([*GOOD, ",ALL,p3"], "line 14: the column path is empty"),
    "short row": ([*GOOD, "3b.png,ALL"], "line 14: no patient and no group"),
    "grey": ([*GOOD, "grey.png,ALL,p77"], "grey.png: it is a grey image"),
    "alpha": ([*GOOD, "clear.png,ALL,p77"], "clear.png: it has transparent parts"),
    "16 bit": ([*GOOD, "deep.png,ALL,p77"], "deep.png: it is a 16-bit image"),
    "unreadable": ([*GOOD, "cut.png,ALL,p77"], "cut.png: .* end early|cut.png: .*damaged"),
    "one class": (rows(label=lambda _: "ALL"), r"one class only, ALL \(12 images\)"),
    "one patient": (
        rows(patient=lambda n: 5 if n % 2 else n),
        "class ALL has 1 patient group.*: add patients",
    ),
}


def written(lab, tmp_path, lines, *, head=HEAD, name="manifest.csv", encoding="utf-8"):
    """The lines as a manifest beside the images."""
    path = tmp_path / name
    text = "\n".join([head, *lines]) + "\n"
    path.write_text(text, encoding=encoding)
    for image in lab.iterdir():
        (tmp_path / image.name).hardlink_to(image)
    return path


def refused(*arguments):
    done = CliRunner().invoke(model, [str(one) for one in arguments])
    assert done.exit_code == 1, done.output
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    (message,) = [line for line in done.output.splitlines() if line.startswith("Error:")]
    return message


@pytest.mark.parametrize("fault", FAULTS)
def test_training_ends_in_one_clear_message(lab, tmp_path, fault):
    lines, words = FAULTS[fault]
    manifest = written(lab, tmp_path, lines)
    message = refused(
        "train", "--run", tmp_path / "run", "--data", manifest, "--from-scratch", "--epochs", 1, "--quiet"
    )
    assert re.search(words, message), message


@pytest.mark.parametrize("command", ["audit", "evaluate"])
@pytest.mark.parametrize("fault", ["label", "empty", "two labels", "moved"])
def test_the_other_commands_say_the_same(lab, tmp_path, command, fault):
    lines, words = FAULTS[fault]
    manifest = written(lab, tmp_path, lines)
    options = ["--out", tmp_path / "page", "--model", "resnet34-simulated"] if command == "evaluate" else []
    assert re.search(words, refused(command, "--manifest", manifest, "--quiet", *options))


@pytest.mark.parametrize(
    ("head", "line", "words"),
    [
        ("path;label;patient", "0.png;ALL;p1", "parted by semicolons or tabs, save it with commas"),
        ("path,label,patient,subtype", "0.png,AML,p1,L1", "line 2: subtype 'L1' is one of ALL, and the label is AML"),
        ("path,class,patient", "0.png,AML,p1", r"lacks the column\(s\) label: it needs"),
    ],
)  # fmt: skip
def test_tables_that_are_almost_manifests(lab, tmp_path, head, line, words):
    manifest = written(lab, tmp_path, [line], head=head)
    assert re.search(words, refused("audit", "--manifest", manifest, "--quiet"))


def test_tables_as_spreadsheets_write_them_are_read(lab, tmp_path):
    lines = [" 0.png , ALL ,p1", "# a note", "1.png,AML,p2"]
    manifest = written(lab, tmp_path, lines, head="# our smears\n path, label ,patient", encoding="utf-8-sig")
    assert [(row.path.name, row.label, row.patient) for row in read_manifest(manifest)] == [
        ("0.png", "ALL", "p1"), ("1.png", "AML", "p2"),
    ]  # fmt: skip
    (tmp_path / "latin.csv").write_bytes(b"path,label,patient\n0.png,ALL,Fran\xe7ois\n")
    assert "save it as comma-separated UTF-8" in refused("audit", "--manifest", tmp_path / "latin.csv")


def test_a_split_that_divides_a_patient_names_the_images(lab, tmp_path):
    written(lab, tmp_path, rows(), name="list.csv")
    done = CliRunner().invoke(
        model,
        ["manifest", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out"), "--split", "1", "--quiet"],
    )
    assert done.exit_code == 0, done.output
    table = tmp_path / "out" / "manifest.csv"
    content = json.loads((tmp_path / "out" / "split.json").read_text())
    by_name = {row.path.name: row for row in read_manifest(table)}
    part = {sha: name for name, members in content["parts"].items() for sha in members}
    first = next(row for row in by_name.values() if part[row.sha256] == "train" and row.label == "ALL")
    other = next(row for row in by_name.values() if part[row.sha256] == "test" and row.label == "ALL")
    table.write_text(re.sub(rf"\b{other.patient}\b", first.patient, table.read_text()))
    message = refused(
        "train", "--run", tmp_path / "run", "--data", table, "--split", tmp_path / "out" / "split.json", "--from-scratch",
        "--quiet",
    )  # fmt: skip
    assert re.search("another manifest: images, labels or groups differ", message)
    from model_zoo.datasets.split import _seal, manifest_hash  # noqa: PLC0415 - a split made by other hands

    del content["seal"]
    content["manifest"] = manifest_hash(read_manifest(table))
    (tmp_path / "forged.json").write_text(json.dumps({**content, "seal": _seal(content)}))
    message = refused(
        "train", "--run", tmp_path / "run2", "--data", table, "--split", tmp_path / "forged.json", "--from-scratch",
        "--quiet",
    )  # fmt: skip
    assert f"divides a patient group: {first.path.name} is in train and {other.path.name} in test" in message


def test_a_table_given_to_manifest_twice_or_with_a_strange_subtype(lab, tmp_path):
    manifest = written(lab, tmp_path, ["0.png,AML,p1", "0.png,AML,p1"], name="list.csv")
    out = ["--out", tmp_path / "out", "--quiet"]
    assert "1 images are listed twice (first: " in refused("manifest", manifest, *out)
    lines = ["0.png,AML,p1,M3", "1.png,AML,p2,L1", "2.png,AML,p3,odd"]
    manifest.write_text("\n".join(["path,label,patient,subtype", *lines]))
    done = CliRunner().invoke(model, ["manifest", str(manifest), *map(str, out), "--json"])
    report = json.loads(done.stdout.splitlines()[-1])
    assert [(row["subtype"], row["known"]) for row in report["subtypes"]] == [("M3", True), ("odd", False)]
    (one,) = report["left_out"]
    assert one["reason"] == "subtype of another label"
    assert "no subtype 'M9' of AML" in refused("manifest", manifest, *out, "--label", "x=AML/M9")
