"""Reviewed frames as a manifest: what is listed, and that the model zoo reads it."""

import csv
import json

import pytest
from click.testing import CliRunner

from clinician_dashboard.commands import dashboard
from clinician_dashboard.record import RecordWriter
from clinician_dashboard.review.labels import export_labels, reader_code
from clinician_dashboard.review.reading import Word
from clinician_dashboard.review.service import ReviewDesk
from clinician_dashboard.review.settings import ReviewSettings
from clinician_dashboard.review.tables import SignedVersionRow
from tests.clinician_dashboard.desk.reviewing import ANNA
from tests.clinician_dashboard.desk.stores import sqlite_store

ALL_SEEN = {"password": "right", "warned": True}


class Signed:
    """A record with signed cases."""

    def __init__(self, record, make):
        self.record, self.make = record, make
        self.writer = RecordWriter(record)
        self.desk = ReviewDesk(
            record,
            settings=ReviewSettings(),
            name="desk",
            on_change=lambda *_what: None,
            confirm=lambda *_what: None,
        )

    def case(self, code, labels, *, leading="CLL", patient="", images=None):
        """A signed case whose frames have ``labels``; an empty one is given none."""
        frames = [
            self.make.frame(code, **({"image": images[n]} if images else {})) for n in range(len(labels))
        ]
        self.writer.apply([*frames, *(self.make.diagnosis(one, leading) for one in frames)])
        where = (ANNA, "ward", code)
        self.desk.claim(*where)
        self.desk.view(*where, [one.frame_id for one in frames])
        for frame, label in zip(frames, labels, strict=True):
            if label:
                reason = "stain" if label == "not_assessable" else ""
                self.desk.resolve(*where, frame.frame_id, label=label, reason=reason)
        if patient:
            self.desk.name_patient(*where, patient)
        self.desk.conclude(*where, Word(leading))
        return frames, self.desk.sign(*where, **ALL_SEEN)


@pytest.fixture
def signed(tmp_path, make):
    record = sqlite_store(tmp_path / "desk").record()
    record.start()
    yield Signed(record, make)
    record.stop()


def rows(folder):
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_readers_labelled_in_signed_cases_is_what_the_zoo_reads(signed, tmp_path):
    manifest = pytest.importorskip("model_zoo.datasets.manifest")
    frames, version = signed.case("HL-1", ["CLL", "healthy", "not_assessable", ""], patient="P-7")
    signed.case("HL-2", ["CLL"], patient="P-7")
    unsigned = signed.make.frame("HL-3")
    signed.writer.apply([unsigned, signed.make.diagnosis(unsigned, "CLL")])
    done = export_labels(signed.record, signed.record.images, tmp_path / "out")
    assert (done.rows, done.cases, done.not_assessable, done.unlabelled) == (3, 2, 1, 1)
    listed = manifest.read_manifest(tmp_path / "out")
    assert [(one.label, one.patient, one.group, one.source) for one in listed] == [
        ("CLL", "ward/P-7", "ward/HL-1", "ward"),
        ("healthy", "ward/P-7", "ward/HL-1", "ward"),
        ("CLL", "ward/P-7", "ward/HL-2", "ward"),
    ]
    assert listed[0].path.read_bytes() == frames[0].image
    assert listed[0].sha256 == frames[0].image_sha256
    first = rows(tmp_path / "out")[0]
    assert first["label_source"] == f"{reader_code('anna')}/frame"
    assert "anna" not in json.dumps(rows(tmp_path / "out"))
    assert first["signed_version_sha256"] == version.sha256

    more = export_labels(
        signed.record, signed.record.images, tmp_path / "more", conclusions=True, reference=True
    )
    assert more.rows == 4
    assert sum(row["label_source"].endswith("/case") for row in rows(tmp_path / "more")) == 1
    assert len(manifest.read_manifest(tmp_path / "more")) == 4


def test_one_image_under_two_classes_and_a_version_that_was_changed_are_left_out(signed, tmp_path):
    frame = signed.make.frame("HL-0").image
    signed.case("HL-1", ["CLL"], images=[frame])
    signed.case("HL-2", ["CML"], images=[frame])
    signed.case("HL-3", ["CLL"])
    with signed.record.transaction() as session:
        row = session.get(SignedVersionRow, 3)
        row.content = {**row.content, "amend_reason": "quietly changed"}
    done = export_labels(signed.record, signed.record.images, tmp_path / "out")
    assert (done.rows, done.conflicts, done.changed) == (0, 1, ["ward/HL-3, version 1"])


def test_the_command_exports_and_is_in_the_audit(signed, tmp_path):
    signed.case("HL-1", ["CLL"])
    signed.record.stop()
    settings = tmp_path / "dashboard.yaml"
    settings.write_text(f"broker: {{port: 1}}\ndirectory: {tmp_path / 'desk'}\n")
    result = CliRunner().invoke(
        dashboard,
        ["export-labels", "--settings", str(settings), "--out", str(tmp_path / "out"), "--json"],
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["by_label"] == {"CLL": 1}
    signed.record.start()
    with signed.record.session() as session:
        actions = session.connection().exec_driver_sql("select action from audit order by number").all()
    assert actions[-1] == ("labels.export",)
