"""The record that ``hemolink bench desk`` fills is one that the writer could have left."""

import pytest
from sqlalchemy import select

from clinician_dashboard.record import Record, RecordReader
from clinician_dashboard.record.case_filter import CaseFilter
from clinician_dashboard.record.case_summary import apply_result, recount
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.record.writing import recount_worklist
from hemolink.bench import desk_fill
from tests.clinician_dashboard.desk.kept import kept_for_worklist

BASE = 20


@pytest.fixture
def filled(tmp_path, monkeypatch):
    monkeypatch.setattr(desk_fill, "BASE_CASES", BASE)
    monkeypatch.setattr(desk_fill, "_UNANSWERED", 0.1)
    desk_fill.write_base(tmp_path / "small", seed=3, pictures=[b"picture"], tell=lambda _: None)
    desk_fill.copy_record(tmp_path / "small", tmp_path / "large")
    desk_fill.multiply(tmp_path / "large", cases=3 * BASE, tell=lambda _: None)
    record = Record(f"sqlite:///{tmp_path / 'large' / desk_fill.DATABASE}", tmp_path / "large")
    record.start()
    yield record
    record.stop()


def test_a_filled_record_is_what_its_own_rules_would_compute(filled):
    reader = RecordReader(filled)
    summary = reader.summary()
    assert summary["cases"] == 3 * BASE
    assert summary["frames"] == 3 * BASE * desk_fill.FRAMES_A_CASE
    assert summary["duplicates"] == 0
    assert 0 < summary["pending_frames"] == summary["frames"] - summary["recorded"]
    assert reader.worklist(CaseFilter(search="HL-000059")).matching == 1

    with filled.session() as session:
        before = kept_for_worklist(session)
    with filled.transaction() as session:
        recount_worklist(session)
    with filled.transaction() as session:
        assert kept_for_worklist(session) == before
        for case in session.scalars(select(CaseRow)).all():
            was = case.totals, case.recorded, case.referred, case.urgency, case.result
            recount(session, case)
            apply_result(case, stopped=())
            assert case.recorded == was[1]
            assert (case.referred, case.urgency, case.result["leading"]) == (
                was[2],
                was[3],
                was[4]["leading"],
            )
            assert case.totals["weight"] == pytest.approx(was[0]["weight"])
            frames = reader.frames_of(case.id).frames
            assert len(frames) == desk_fill.FRAMES_A_CASE
            assert {frame.row.case_id for frame in frames} == {case.id}
