"""The study through its command: both protocols, the table, resuming, and what is refused."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from model_zoo.commands import model
from smear_simulator import write_dataset

pytestmark = pytest.mark.torch

RECIPE = """
architecture: resnet34
batches: 2
batch_size: 4
epochs: 2
size: 32
learning_rate: 0.002
body_rate: 0.2
head_share: 0.2
test_share: 0.2
originals: {healthy: 8, ALL: 8, AML: 4, CLL: 3, CML: 4}
augmented: {healthy: 24, ALL: 20, AML: 20, CLL: 15, CML: 20}
augmentation: {rotation: 180, shift: 0.1, zoom: 0.15, shear: 10, flip: 0.5}
"""


@pytest.fixture(scope="module")
def smears(tmp_path_factory):
    """Twenty simulated patients, two frames each, and ten others; a recipe of two batches."""
    folder = tmp_path_factory.mktemp("study")
    write_dataset(folder / "data", patients=20, frames=2, seed=3, width=96, height=96)
    write_dataset(folder / "fresh", patients=10, frames=1, seed=4, width=96, height=96)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def study(smears, out, *options, code=0):
    arguments = ["study", "--manifest", smears / "data", "--recipe", smears / "recipe.yaml", "--out", out]
    done = CliRunner().invoke(model, [str(part) for part in (*arguments, "--quiet", *options)])
    assert done.exit_code == code, done.output
    return done


def last_json(done):
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def honest_first(smears):
    """A study of the honest protocol alone, with fresh patients."""
    options = ("--from-scratch", "--fresh", smears / "fresh")
    return last_json(study(smears, smears / "out", *options, "--protocol", "honest", "--json"))


@pytest.fixture(scope="module")
def finished(smears, honest_first):
    """The same study gone on with: the other protocol, and made images."""
    options = ("--from-scratch", "--fresh", smears / "fresh", "--resume")
    return last_json(
        study(smears, smears / "out", *options, "--made-images", "10", "--generator-steps", "2", "--json")
    )


def test_a_study_is_not_written_over(smears, honest_first):
    out, options = smears / "out", ("--from-scratch", "--fresh", smears / "fresh")
    assert list(honest_first["protocols"]) == ["honest"]
    assert "already holds a study" in study(smears, out, *options, code=1).output
    other = study(smears, out, *options, "--resume", "--seed", "5", code=1)
    assert "other settings (seed)" in other.output


def test_both_protocols_beside_the_published_table(smears, honest_first, finished):
    report, out = finished, smears / "out"
    assert report["simulated"]
    assert report["originals"] == {"healthy": 8, "ALL": 8, "AML": 4, "CLL": 3, "CML": 4}
    assert set(report["protocols"]) == {"as-published", "honest", "honest + made"}
    leaky, honest = report["protocols"]["as-published"], report["protocols"]["honest"]
    assert honest == honest_first["protocols"]["honest"], "what was done is not done again"
    assert leaky["train_images"] + leaky["test_images"] == 99
    assert leaky["test_images"] == pytest.approx(0.2 * 99, abs=2)
    assert leaky["tested_with_sibling_in_training"] > 0.9
    assert honest["tested_with_sibling_in_training"] == 0
    assert report["published"]["accuracy"] == 99.56
    for protocol in (leaky, honest):
        figures = protocol["figures"]
        assert np.sum(figures["confusion"]) == figures["images"] == protocol["test_images"]
        assert figures["errors"] == figures["images"] - np.trace(figures["confusion"])
        for row in figures["by_class"]:
            low, high = row["accuracy"]["bootstrap"]
            assert low <= row["accuracy"]["value"] <= high
            assert {"precision", "recall", "f1"} <= set(row)
        assert [entry["batch"] for entry in protocol["curve"]] == [1, 2]
        assert protocol["fresh"]["images"] == 10
    assert {row["protocol"] for row in report["truth"]} == set(report["protocols"])
    said = " ".join(report["warnings"])
    assert "SIMULATED" in said
    assert "leaks" in said
    page = (out / "study.html").read_text(encoding="utf-8")
    assert "SIMULATED" in page
    assert page.count("<svg") >= 11
    assert "http" not in page.replace("http://www.w3.org", "")
    with (out / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [*("healthy", "ALL", "AML", "CLL", "CML", "all")] * 3
    assert not (out / "honest" / "copies").exists()


def test_made_images_are_measured_and_marked(smears, finished):
    made = finished["made"]
    assert made["images"] == 10
    for where, images in (("test", finished["protocols"]["honest"]["test_images"]), ("fresh", 10)):
        low, high = made[where]["interval"]
        assert low <= made[where]["value"] <= high
        assert made[where]["images"] == images
    assert "MADE" in (smears / "out" / "study.html").read_text(encoding="utf-8")
    assert (smears / "out" / "sheet-MADE.png").is_file()


def test_random_labels_have_no_published_figure(smears, tmp_path):
    done = study(smears, tmp_path / "out", "--from-scratch", "--null-labels", "--protocol", "honest")
    assert "drawn at random" in done.output
    assert "99.56" not in done.output
    assert "SIMULATED" in done.output


def test_what_cannot_be_is_refused(smears, tmp_path):
    out = tmp_path / "out"
    made = study(smears, out, "--made-images", "5", "--protocol", "as-published", code=2)
    assert "siblings in training" in made.output
    same = study(smears, out, "--from-scratch", "--fresh", smears / "data", code=1)
    assert "no protocol has seen" in same.output
    odd = study(smears, out, "--from-scratch", "--size", "50", code=1)
    assert "multiple of 32" in odd.output
    (tmp_path / "bad.yaml").write_text(RECIPE.replace("batches: 2", "batches: none"), encoding="utf-8")
    bad = study(smears, out, "--recipe", tmp_path / "bad.yaml", code=1)
    assert "batches" in bad.output
    assert not out.exists()


@pytest.mark.parametrize("name", ["resnet34", "densenet121"])
def test_recipes_have_the_counts_of_the_study(name):
    from model_zoo.study.recipe import load_recipe  # noqa: PLC0415

    recipe = load_recipe(name)
    assert sum(recipe.originals.values()) == 518
    assert sum(recipe.augmented.values()) == 5636
    assert recipe.batches == 700
    for pretrained in (False, True):
        stages = recipe.stages(pretrained=pretrained)
        assert sum(stage.steps for stage in stages) == 700
    assert [stage.body_rate for stage in recipe.stages(pretrained=True)] == [0.0, 0.2]


def test_made_images_never_see_a_tested_group(smears):
    from model_zoo.datasets.manifest import read_manifest  # noqa: PLC0415
    from model_zoo.errors import DatasetError  # noqa: PLC0415
    from model_zoo.study.made import training_only  # noqa: PLC0415
    from model_zoo.study.originals import Originals, choose  # noqa: PLC0415
    from model_zoo.study.plan import Plan, make_plan  # noqa: PLC0415
    from model_zoo.study.recipe import load_recipe  # noqa: PLC0415

    recipe = load_recipe(smears / "recipe.yaml")
    rows = read_manifest(smears / "data")
    originals = Originals.load(rows, choose(rows, originals=None, seed=0), size=32)
    plans = {
        name: make_plan(name, originals.labels, originals.groups, recipe=recipe, seed=0)
        for name in ("as-published", "honest")
    }
    honest = plans["honest"]
    learnt = training_only(honest, originals)
    tested = np.unique(honest.origin[honest.test])
    assert not np.isin(originals.groups[learnt], originals.groups[tested]).any()
    assert len(learnt) + len(tested) == len(originals)
    with pytest.raises(DatasetError, match="siblings in training"):
        training_only(plans["as-published"], originals)
    mixed = Plan("honest", honest.origin, honest.copy, honest.train, honest.train[:3])
    with pytest.raises(DatasetError, match="must not see it"):
        training_only(mixed, originals)


def test_the_source_alone_is_held_against_the_figures():
    from model_zoo.study.verdict import caveat, source_floor  # noqa: PLC0415

    apart = {"healthy": {"a": 90, "b": 10}, "ALL": {"c": 80}, "AML": {"b": 20}}
    mixed = {"healthy": {"a": 50, "b": 50}, "ALL": {"a": 50, "b": 50}}
    assert source_floor(apart) == pytest.approx(190 / 200)
    assert source_floor(mixed) == pytest.approx(0.5)
    assert source_floor({"healthy": {"a": 5}, "ALL": {"a": 5}}) == 0
    report = {"simulated": False, "null_labels": False, "sources": apart}
    assert caveat(report) == "class equals source"
    assert caveat({**report, "sources": mixed}) == ""
    assert caveat({**report, "simulated": True}) == "SIMULATED"
