"""`hemolink model manifest`: layouts, hashes, groups, and what is refused."""

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from model_zoo.commands import model
from model_zoo.datasets.fingerprint import fingerprint, oriented
from model_zoo.datasets.likeness import alike
from model_zoo.datasets.manifest import looks_augmented, read_manifest
from model_zoo.datasets.split import read_split
from model_zoo.errors import DatasetError
from smear_simulator import Microscope, population


@pytest.fixture(scope="module")
def fields() -> list[np.ndarray]:
    """Fields of fourteen simulated patients, (480, 640, 3)."""
    return [Microscope(patient, seed=7).capture().image for patient in population(14, seed=977_010)]


@pytest.fixture
def put(tmp_path):
    """Write images to paths below a folder `data`, and return the folder."""

    def write(images: dict[str, np.ndarray | bytes]) -> Path:
        for name, image in images.items():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(image, bytes):
                path.write_bytes(image)
            else:
                assert cv2.imwrite(str(path), image)
        return tmp_path / "data"

    return write


def run(*arguments, code=0):
    done = CliRunner().invoke(model, ["manifest", *[str(a) for a in arguments], "--quiet", "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout.strip().splitlines()[-1]) if code == 0 else done.output


def rows_of(report) -> list[dict[str, str]]:
    with Path(report["manifest"]).open(newline="") as file:
        return list(csv.DictReader(file))


def by_group(report) -> list[set[str]]:
    groups: dict[str, set[str]] = {}
    for row in rows_of(report):
        groups.setdefault(row["group"], set()).add(Path(row["path"]).name)
    return sorted(groups.values(), key=min)


def test_all_idb_crops_join_the_field_they_were_cut_from(put, fields, tmp_path):
    root = put(
        {
            "ALL_IDB1/im/Im001_1.jpg": fields[0],
            "ALL_IDB1/im/Im002_0.jpg": fields[1],
            "ALL_IDB2/img/Im001_1.tif": fields[0][101:229, 203:331],
            "ALL_IDB2/img/Im002_1.tif": fields[0][300:428, 10:138],
            "ALL_IDB2/img/Im003_0.tif": fields[1][200:328, 400:528],
            "ALL_IDB2/img/Im004_0.tif": fields[2][200:328, 400:528],
        }
    )
    report = run(root, "--out", tmp_path / "out")
    assert list(report["layouts"].values()) == ["all-idb"]
    assert report["crops_without_field"] == 1
    assert by_group(report) == [
        {"Im001_1.jpg", "Im001_1.tif", "Im002_1.tif"},
        {"Im002_0.jpg", "Im003_0.tif"},
        {"Im004_0.tif"},
    ]
    rows = {Path(row["path"]).name: row for row in rows_of(report)}
    assert [rows[n]["label"] for n in ("Im001_1.jpg", "Im003_0.tif")] == ["ALL", "healthy"]
    assert rows["Im002_1.tif"]["parent"].endswith("Im001_1.jpg")
    where = next(u for u in report["unions"] if u["second"].endswith("Im002_1.tif"))
    assert "(10, 300)" in where["detail"]


def test_c_nmc_names_tell_subject_and_class(put, fields, tmp_path):
    root = put(
        {
            "fold_0/all/UID_11_4_2_all.bmp": fields[0],
            "fold_0/all/UID_11_9_1_all.bmp": fields[1],
            "fold_1/hem/UID_H11_4_2_hem.bmp": fields[2],
        }
    )
    report = run(f"cnmc={root}", "--out", tmp_path / "out")
    rows = rows_of(report)
    assert [(r["label"], r["patient"], r["source"], r["parent"]) for r in rows] == [
        ("ALL", "UID_11", "cnmc", "UID_11_4"),
        ("ALL", "UID_11", "cnmc", "UID_11_9"),
        ("healthy", "UID_H11", "cnmc", "UID_H11_4"),
    ]
    assert report["groups"] == 2


def test_folders_by_class_and_by_patient(put, fields, tmp_path):
    root = put(
        {
            "Acute Myeloid Leukemia/1.jpg": fields[0],
            "normal/1.jpg": fields[1],
            "M3/case 7/a.png": fields[2],
            "M3/case 7/b.png": fields[3],
            "odd/x.png": fields[4],
        }
    )
    output = run(root, "--out", tmp_path / "out", code=1)
    assert "labels that the model does not know: 'odd' (1 images)" in output
    assert "--label NAME=LABEL" in output
    report = run(root, "--out", tmp_path / "out", "--label", "odd=-")
    assert {(r["label"], r["subtype"], r["patient"]) for r in rows_of(report)} == {
        ("AML", "", ""), ("healthy", "", ""), ("AML", "M3", "case 7"), ("", "", ""),
    }  # fmt: skip
    assert report["groups"] == 4
    assert len(read_manifest(report["manifest"])) == 4


def test_near_duplicates_are_united_with_the_reason_and_labels_that_clash_are_told(put, fields, tmp_path):
    blurred = cv2.GaussianBlur(fields[0], (0, 0), 1.5)
    root = put(
        {
            "ALL/a.jpg": fields[0],
            "ALL/smaller.png": cv2.resize(fields[0], (320, 240), interpolation=cv2.INTER_AREA),
            "CLL/b.png": blurred,
            "CLL/mirror.png": fields[5][:, ::-1],
            "CLL/original.png": fields[5],
            "CML/turned.png": cv2.rotate(fields[6], cv2.ROTATE_90_CLOCKWISE),
            "CML/c.png": fields[6],
            "CML/hflip_3.png": fields[7],
        }
    )
    report = run(root, "--out", tmp_path / "out")
    assert {"a.jpg", "smaller.png", "b.png"} in by_group(report)
    assert {Path(p["second"]).name for p in report["duplicates_across_labels"]} == {"b.png"}
    assert any("of 255 bits differ" in union["detail"] for union in report["unions"])
    out = {Path(one["path"]).name: one["reason"] for one in report["left_out"]}
    assert len(out) == 3
    assert set(out.values()) == {"augmented copy"}
    assert "hflip_3.png" in out


def test_bad_files_are_left_out_each_with_one_message(put, fields, tmp_path):
    grey = cv2.cvtColor(fields[0], cv2.COLOR_BGR2GRAY)
    clear = np.dstack([fields[1], np.full(grey.shape, 100, np.uint8)])
    solid = np.dstack([fields[2], np.full(grey.shape, 255, np.uint8)])
    cut = cv2.imencode(".jpg", fields[3])[1].tobytes()
    bitmap = cv2.imencode(".bmp", fields[3])[1].tobytes()
    root = put(
        {
            "ALL/good.jpg": fields[4],
            "ALL/solid.png": solid,
            "ALL/grey.png": grey,
            "ALL/clear.png": clear,
            "ALL/deep.png": fields[5].astype(np.uint16) * 256,
            "ALL/cut.jpg": cut[: len(cut) // 2],
            "ALL/cut.bmp": bitmap[: len(bitmap) // 2],
            "ALL/empty.jpg": b"",
            "ALL/text.tif": b"II*\0hello",
            "CML/same.jpg": cv2.imencode(".jpg", fields[6])[1].tobytes(),
            "AML/same.jpg": cv2.imencode(".jpg", fields[6])[1].tobytes(),
        }
    )
    report = run(root, "--out", tmp_path / "out")
    assert {Path(row["path"]).name for row in rows_of(report)} == {"good.jpg", "solid.png"}
    reasons = {Path(one["path"]).name: one["reason"] for one in report["left_out"]}
    assert reasons == {
        "grey.png": "grey", "clear.png": "alpha", "deep.png": "16-bit", "cut.jpg": "unreadable", "cut.bmp": "unreadable",
        "empty.jpg": "unreadable", "text.tif": "unreadable", "same.jpg": "one picture, two labels",
    }  # fmt: skip
    assert all(": " in one["message"] for one in report["left_out"])
    assert "9 files cannot be used" in run(root, "--out", tmp_path / "strict", "--strict", code=1)
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (["nowhere"], "does not exist"),
        (["empty"], "holds no image"),
        (["data", "data"], "listed twice"),
        (["data", "--label", "odd=ZLL"], "'ZLL' is no label of the model"),
        (["loose"], "outside any class folder"),
        (["no_label.csv"], r"lacks the column\(s\) label"),
    ],
)
def test_inputs_that_make_no_sense(put, fields, tmp_path, monkeypatch, inputs, words):
    put({"ALL/a.jpg": fields[0]})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "loose").mkdir()
    cv2.imwrite("loose/a.jpg", fields[0])
    Path("no_label.csv").write_text("path,class\na.jpg,ALL\n")
    done = CliRunner().invoke(model, ["manifest", *inputs, "--out", "out", "--quiet"])
    assert done.exit_code == 1
    assert len(done.output.strip().splitlines()) == 1
    assert re.search(words, done.output)


def test_a_split_is_sealed_and_refused_once_anything_changed(put, fields, tmp_path):
    images = {
        f"{label}/{n}.jpg": fields[3 * k + n] for k, label in enumerate(["ALL", "AML"]) for n in range(3)
    }
    root = put(images)
    report = run(root, "--out", tmp_path / "out", "--split", 4)
    split_path, manifest = Path(report["split"]["path"]), Path(report["manifest"])
    rows = read_manifest(manifest)
    split, seal = read_split(split_path, rows)
    assert seal == report["split"]["seal"]
    assert [len(split.train), len(split.calibration), len(split.test)] == [2, 2, 2]
    content = json.loads(split_path.read_text())
    content["parts"]["train"].append(content["parts"]["test"].pop())
    split_path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="changed after it was sealed"):
        read_split(split_path, rows)
    run(root, "--out", tmp_path / "out", "--split", 4)
    with pytest.raises(DatasetError, match="another manifest"):
        read_split(split_path, rows[:-1])
    root.rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match=r"6 of the 6 images .* are not there"):
        read_manifest(manifest)


def test_one_class_and_too_few_groups_are_refused(put, fields, tmp_path):
    root = put({f"ALL/{n}.jpg": fields[n] for n in range(4)})
    assert "one class only, ALL" in run(root, "--out", tmp_path / "out", "--split", 1, code=1)
    put({"AML/p1/a.jpg": fields[5], "AML/p1/b.jpg": fields[6]})
    output = run(root, "--out", tmp_path / "out", "--split", 1, code=1)
    assert "class AML has 1 patient group(s)" in output


@pytest.mark.parametrize(
    ("name", "augmented"),
    [
        ("x_aug3.jpg", True), ("aug_0_77.jpeg", True), ("a-rot90.png", True), ("augmented/a.png", True),
        ("Im001_1.jpg", False), ("august 3.jpg", False), ("protein.png", False), ("Patient_00_01.jpg", False),
    ],
)  # fmt: skip
def test_names_of_augmented_copies(name, augmented):
    assert looks_augmented(Path(name)) is augmented


def test_bands_find_what_comparing_every_pair_finds(fields):
    rng = np.random.default_rng(3)
    images = []
    for image in fields:
        for _ in range(12):
            x, y = rng.integers(0, 380), rng.integers(0, 240)
            images.append(image[y : y + 240, x : x + 240])
    images += [cv2.GaussianBlur(image, (0, 0), 2) for image in images[::9]]
    images += [np.ascontiguousarray(image[::-1]) for image in images[::11]]
    prints = [fingerprint(np.ascontiguousarray(image), bytes([n])) for n, image in enumerate(images)]
    every, banded = alike(prints), alike(prints, pairwise=0)
    assert {m for m in every if m.bits <= 47 and not m.orientation} <= set(banded)
    assert {m for m in every if m.orientation} <= set(banded)
    assert set(banded) <= set(every)
    assert {(9 * n, 168 + n) for n in range(19)} <= {(m.first, m.second) for m in banded}


def test_hashes_of_mirrored_and_turned_pictures_follow_from_one(fields):
    bits = fingerprint(fields[0], b"").bits
    for orientation in range(8):
        turned = fields[0]
        turned = turned[:, ::-1] if orientation & 1 else turned
        turned = turned[::-1] if orientation & 2 else turned
        turned = turned.transpose(1, 0, 2) if orientation & 4 else turned
        own = fingerprint(np.ascontiguousarray(turned), b"").bits
        assert (own != oriented(bits, orientation)).sum() <= 2


def test_the_real_set_has_the_near_duplicates_that_were_looked_at(tmp_path, real_smears):
    report = run(real_smears, "--out", tmp_path / "out")
    assert report["images"] == 2274
    assert report["left_out"] == []
    pairs = {
        (Path(u["first"]).stem[:12], Path(u["second"]).stem[:12])
        for u in report["unions"]
        if u["kind"] == "near-duplicate"
    }
    assert ("BloodImage_0", "BloodImage_0") in pairs
    assert len(pairs) == 6
