"""`hemolink model evaluate --manifest`: the report, its tables, and what it says of a set that shows little."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score, roc_auc_score

from model_zoo.commands import model
from model_zoo.report.curves import Ranking
from model_zoo.report.resampling import Resampling
from smear_simulator import write_dataset

pytestmark = pytest.mark.timeout(300)  # the package made for these tests takes a minute on a loaded machine


def evaluate(*arguments, code=0):
    done = CliRunner().invoke(model, ["evaluate", *[str(argument) for argument in arguments]])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Fifteen simulated patients, two frames each; one class from a laboratory of its own, two frames without a label."""
    folder = tmp_path_factory.mktemp("report") / "data"
    write_dataset(folder, patients=15, frames=2, seed=41, width=320, height=240)
    rows = listed(folder / "manifest.csv")
    for row in rows:
        row["source"] = "north" if row["label"] == "CLL" else "south"
        row["site"] = "ward <1>"
    for row in rows[:2]:
        row["label"] = ""
    rewrite(folder / "manifest.csv", rows)
    return folder


def listed(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def written(made, frames):
    out = frames.parent / "report"
    done = evaluate(
        "--model", made.path, "--manifest", frames, "--out", out, "--explanations", 4, "--quiet", "--json"
    )
    return json.loads(done.stdout.strip().splitlines()[-1]), out


def test_the_page_holds_everything_and_loads_nothing(written):
    found, out = written
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    linked = set(re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page))
    assert linked == set(found["files"]) - {"index.html"}
    assert all((out / name).is_file() for name in linked)
    assert page.count("<svg") >= 8
    assert "It shows where, not why." in page
    assert "An activation map shows where, not why." in page
    assert "Heat inside nuclei, on SIMULATED smears" in page
    assert found["explanations"]["frames"] == 4
    assert "ward &lt;1&gt;" in page
    assert "reporting-items.md" in page
    assert "Trained on SIMULATED smears" in page


def test_the_map_of_reporting_items_names_places_that_there_are(written):
    found, out = written
    text = (Path(__file__).parents[2] / "docs" / "reporting-items.md").read_text(encoding="utf-8")
    page = (out / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r"#([a-z]+)\b", text)) - {"x"}
    assert len(named) > 8
    assert all(f'id="{name}"' in page for name in named)
    (line,) = [line for line in text.splitlines() if line.startswith("| **csv**")]
    assert {f"{name}.csv" for name in re.findall(r"`([a-z_]+)`", line)} <= {*found["files"], "reasons.csv"}


def test_counts_agree_between_page_tables_and_frames(written):
    found, out = written
    assert json.loads((out / "report.json").read_text())["confusion"] == found["confusion"]
    frames = listed(out / "frames.csv")
    known = [row for row in frames if row["truth"]]
    assert (len(frames), len(known), found["labelled"]) == (30, 28, 28)
    right = sum(row["truth"] == row["prediction"] for row in known)
    assert found["outcomes"]["accuracy"]["hits"] == right == np.trace(found["confusion"])
    assert np.sum(found["confusion"]) == 28
    parts = [found["outcomes"][key]["hits"] for key in ("reported_right", "reported_wrong", "referred")]
    assert sum(parts) == 28
    wrong = 100 * (1 - found["outcomes"]["accuracy"]["value"])
    assert f"answered, {wrong:.1f} %" in found["expectation"]
    assert sum(part["frames"] for part in found["prediction_sets"]["sizes"]) == 28
    assert sum(part["frames"] for part in found["reliability"]["bins"]) == 28
    assert {row["source"] for row in found["per_source"]} == {"north", "south"}
    assert sum(row["frames"] for row in found["per_source"]) == 30
    (site,) = listed(out / "per_site.csv")
    assert (site["site"], site["labelled"]) == ("ward <1>", "28")
    for row in found["per_class"]:
        for key in ("sensitivity", "specificity", "ppv"):
            if row[key]["value"] is not None:
                for interval in (row[key]["wilson"], row[key]["bootstrap"]):
                    assert interval[0] <= row[key]["value"] + 1e-4
                    assert row[key]["value"] <= interval[1] + 1e-4
    assert [row["name"].split()[0] for row in found["rivals"]] == ["largest", "largest", "random"]


def test_it_says_where_the_class_is_the_source(made, frames, tmp_path, written):
    assert written[0]["sources"]["single_class_sources"] == ["north"]
    assert not written[0]["sources"]["class_equals_source"]
    assert any("2 frames have no label" in said for said in written[0]["limits"])
    rows = [r for r in listed(frames / "manifest.csv") if r["label"]]
    rows = [
        {**row, "path": str(frames / row["path"]), "source": f"laboratory of {row['label']}"} for row in rows
    ]
    rewrite(tmp_path / "manifest.csv", rows)
    out = tmp_path / "out"
    done = evaluate("--model", made.path, "--manifest", tmp_path, "--out", out, "--explanations", 0)
    assert "CLASS EQUALS SOURCE" in done.output
    assert "CLASS EQUALS SOURCE" in (out / "index.html").read_text(encoding="utf-8")


def test_bad_input_is_one_clear_message(made, frames, tmp_path):
    rows = listed(frames / "manifest.csv")
    rows = [{**row, "path": str(frames / row["path"])} for row in rows]

    def refused(changed):
        rewrite(tmp_path / "manifest.csv", changed)
        done = evaluate(
            "--model", made.path, "--manifest", tmp_path, "--out", tmp_path / "o", "--quiet", code=1
        )
        assert "Traceback" not in done.output
        assert not (tmp_path / "o").exists()
        return done.output

    assert "label 'MDS' is none of" in refused([{**rows[5], "label": "MDS"}, *rows[6:]])
    assert "lists no labelled image" in refused([{**row, "label": ""} for row in rows])
    assert "are not there" in refused([{**row, "path": row["path"] + ".gone"} for row in rows])
    rewrite(tmp_path / "manifest.csv", rows)
    (tmp_path / "file").write_text("")
    common = ("--model", made.path, "--manifest", tmp_path, "--quiet")
    assert "go together" in evaluate(*common, code=2).output
    assert "is a file" in evaluate(*common, "--out", tmp_path / "file", code=2).output
    assert (
        "4 frames or more" in evaluate(*common, "--out", tmp_path / "o", "--explanations", 2, code=2).output
    )


def test_one_class_alone_still_makes_a_report(made, frames, tmp_path):
    rows = [
        {**row, "path": str(frames / row["path"])}
        for row in listed(frames / "manifest.csv")
        if row["label"] == "CLL"
    ]
    rewrite(tmp_path / "manifest.csv", rows)
    out = tmp_path / "out"
    evaluate("--model", made.path, "--manifest", tmp_path, "--out", out, "--explanations", 0, "--quiet")
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "one class only" in page
    assert "AML: no frame, so that its sensitivity is unknown" in page


def test_areas_agree_with_the_library_and_weights_count_as_copies():
    rng = np.random.default_rng(3)
    truth, scores = rng.random(200) < 0.3, rng.integers(0, 12, 200) / 12
    ranking = Ranking(scores, truth)
    assert ranking.auc(np.ones(200)) == pytest.approx(roc_auc_score(truth, scores))
    assert ranking.average_precision(np.ones(200)) == pytest.approx(average_precision_score(truth, scores))
    times = rng.integers(0, 3, 200)
    again = np.repeat(np.arange(200), times)
    assert ranking.auc(times.astype(float)) == pytest.approx(roc_auc_score(truth[again], scores[again]))


def test_frames_of_one_group_widen_the_interval():
    right = np.repeat(np.random.default_rng(1).random(40) < 0.8, 10)
    everything = np.ones(400, bool)
    grouped = Resampling(np.repeat(np.arange(40), 10)).estimate_share(right, everything)
    low, high = grouped["wilson"]
    wider = grouped["bootstrap"][1] - grouped["bootstrap"][0]
    assert wider > 2 * (high - low)
