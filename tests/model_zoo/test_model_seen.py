"""Frames that a package was trained or calibrated on take no part in its evaluation, nor do others of their patients."""

import csv
import hashlib
import json

import numpy as np
import pytest
from click.testing import CliRunner

from model_zoo.card import SEEN_DIGITS, read_card
from model_zoo.commands import model
from model_zoo.datasets.manifest import read_manifest
from model_zoo.packaging import write_card
from model_zoo.preprocessing import Preprocessing
from model_zoo.store import FrameStore
from smear_simulator import write_dataset

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]


def knowing(folder, hashes):
    """Let a package's card name images that it has seen."""
    card = read_card(folder)
    training = card.training_data.model_copy(update={"seen": tuple(sorted(hashes))})
    write_card(card.model_copy(update={"training_data": training}), folder)


def digests(folder):
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [hashlib.sha256((folder / row["path"]).read_bytes()).hexdigest() for row in rows]


def test_what_was_seen_is_left_out_with_its_patients_and_said(tmp_path, package_copy):
    data = tmp_path / "data"
    write_dataset(data, patients=5, frames=2, seed=77, width=320, height=240)
    hashes = digests(data)
    stored = FrameStore.from_manifest(read_manifest(data), tmp_path / "store", preprocessing=Preprocessing())
    assert sorted(frame.sha256 for frame in stored.frames) == sorted(hashes)
    options = ["evaluate", "--model", str(package_copy), "--data", str(data), "--json"]

    knowing(package_copy, {hashes[0][:SEEN_DIGITS]})
    done = CliRunner().invoke(model, options)
    assert done.exit_code == 0, done.output
    assert np.sum(json.loads(done.stdout.strip().splitlines()[-1])["confusion"]) == 8
    assert "2 frames are left out of every figure: 1 took part" in done.stderr

    knowing(package_copy, {one[:SEEN_DIGITS] for one in hashes})
    done = CliRunner().invoke(model, options)
    assert done.exit_code == 1
    assert "evaluate on frames that it has not seen" in done.output
