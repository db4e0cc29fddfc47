"""Frames on disk: a manifest that tells the label, and paths that do not."""

import csv
import hashlib

import cv2
import pytest

from smear_simulator import CLASSES, SettingError, SimulatorError, write_dataset


def test_dataset_is_written_told_and_reproducible(tmp_path):
    steps = []
    manifest = write_dataset(
        tmp_path / "a",
        patients=5,
        frames=2,
        seed=3,
        width=160,
        height=120,
        progress=lambda *step: steps.append(step),
    )
    assert steps == [(i, 10) for i in range(1, 11)]
    with manifest.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [
        "path", "sha256", "source", "label", "patient", "group", "parent", "stage_x_um", "stage_y_um",
        "pixel_size_um", "width", "height", "seed", "licence",
    ]  # fmt: skip
    assert sorted(row["label"] for row in rows) == sorted(CLASSES * 2)
    for row in rows:
        content = (tmp_path / "a" / row["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
        assert cv2.imread(str(tmp_path / "a" / row["path"])).shape == (120, 160, 3)
        assert row["source"] == "simulated"
        assert row["patient"] == row["group"]
        assert row["path"] == f"images/{row['patient']}-{int(row['path'][-7:-4]):03d}.jpg"
        assert row["label"] not in row["path"]
    assert (tmp_path / "a" / "SIMULATED.txt").read_text(encoding="utf-8").startswith("SIMULATED")
    again = write_dataset(tmp_path / "b", patients=5, frames=2, seed=3, width=160, height=120)
    assert again.read_bytes() == manifest.read_bytes()


def test_what_cannot_be_written_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(SettingError, match="one or more"):
        write_dataset(tmp_path, patients=1, frames=0, seed=1)
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    with pytest.raises(SimulatorError, match=r"permissions and free space"):
        write_dataset(blocked, patients=1, frames=1, seed=1, width=64, height=64)
