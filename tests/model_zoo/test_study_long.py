"""What the study is for, at length: random labels are learnt by the published protocol alone."""

import json

import pytest
from click.testing import CliRunner

from model_zoo.commands import model
from smear_simulator import write_dataset

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(3600)]


def test_random_labels_are_above_chance_only_as_published(tmp_path):
    write_dataset(tmp_path / "data", patients=150, frames=1, seed=21, width=224, height=224)
    arguments = [
        "study",
        "--manifest",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--null-labels",
    ]
    options = ["--from-scratch", "--size", "64", "--batch-size", "32", "--quiet", "--json"]
    done = CliRunner().invoke(model, [*arguments, *options])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.strip().splitlines()[-1])["protocols"]
    leaky, honest = (found[name]["figures"]["accuracy"] for name in ("as-published", "honest"))
    assert leaky["bootstrap"][0] > 0.4
    assert honest["bootstrap"][0] < 0.2 < honest["bootstrap"][1] + 0.1
