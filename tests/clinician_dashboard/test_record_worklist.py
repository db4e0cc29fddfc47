"""The worklist: both ways to a page give the same answers, on both databases, and pages by key hold still."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from clinician_dashboard.case_result import URGENCIES
from clinician_dashboard.record import RecordReader, RecordWriter, case_filter, few_cases
from clinician_dashboard.record.case_filter import CaseFilter
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.record.worklist import key_of
from clinician_dashboard.record.writing import recount_worklist
from tests.clinician_dashboard.desk.kept import kept_for_worklist
from tests.clinician_dashboard.desk.maker import Maker, jpeg

CASES = 45
IMAGE = jpeg(1)


@pytest.fixture
def record(store):
    """Cases of two sites and three microscopes, of every class, some claimed, signed or to be amended."""
    record = store.record()
    record.start()
    writer = RecordWriter(record)
    makers = [Maker("ward", "scope-1"), Maker("ward", "scope-2"), Maker("harbour", "cam-9")]
    leading = itertools.cycle(["AML", "CLL", "healthy", "CML"])
    for number in range(CASES):
        make = makers[number % 3]
        frame = make.frame(
            f"HL-{number:03d}-ab",
            image=IMAGE,
            priority="stat" if number % 7 == 0 else "routine",
            captured_at=datetime.now(UTC) - timedelta(hours=number),
        )
        more = [makers[1].frame(f"HL-{number:03d}-ab", image=IMAGE)] if number % 15 == 0 else []
        answer = [make.diagnosis(frame, next(leading))] if number % 9 else []
        writer.apply([frame, *more, *answer])
    with record.transaction() as session:
        for case in session.scalars(select(CaseRow)):
            if case.id % 4 == 0:
                case.status, case.claimed_by = "claimed", "ann" if case.id % 8 else "bob"
            elif case.id % 5 == 0:
                case.status, case.signed_at = "signed", datetime.now(UTC)
            elif case.id % 11 == 0:
                case.status = "amend"
    yield record
    record.stop()


def filters():
    day = datetime.now(UTC) - timedelta(days=1)
    texts = [
        "",
        "HL",
        "hl-01",
        "-ab",
        "7",
        "scope",
        "scope-2",
        "cam",
        "ward",
        "WARD",
        "aml",
        "healthy",
        "%",
        "_",
        "zz",
        "b\\",
    ]
    for text in texts:
        yield CaseFilter(search=text)
        yield CaseFilter(search=text, status="open", urgency="critical")
    for status in (*case_filter.STATUSES, "nonsense"):
        yield CaseFilter(status=status)
        yield CaseFilter(status=status, site="ward", urgency="high")
    yield from (
        CaseFilter(device="scope-2"),
        CaseFilter(device="scope-2", status="open", search="0"),
        CaseFilter(claimed_by="ann"),
        CaseFilter(claimed_by="nobody"),
        CaseFilter(opened_before=day, status="open"),
        CaseFilter(opened_after=day, site="harbour"),
        CaseFilter(site="nowhere"),
        CaseFilter(device="scope-2", status="claimed", site="ward"),
        CaseFilter(device="scope-2", search="aml"),
        CaseFilter(device="scope-1", search="cam"),
        CaseFilter(device="scope-2", opened_after=day, urgency="high"),
        CaseFilter(device="scope-2", claimed_by="ann"),
        CaseFilter(device="scope-2", site="harbour"),
        CaseFilter(site="ward", search="harb"),
        CaseFilter(site="ward", search="cml", status="signed"),
    )


def matches(case, wanted):
    """The filter once more, as plainly as it can be said."""
    text, devices = wanted.search.lower(), case.devices.split(", ")
    return all(
        (
            wanted.urgency in ("", case.urgency),
            wanted.status not in case_filter.STATUSES
            or wanted.status == case.status
            or (wanted.status == "open" and case.status != "signed"),
            wanted.site in ("", case.site),
            not wanted.device or wanted.device in devices,
            not wanted.claimed_by or wanted.claimed_by == case.claimed_by,
            wanted.opened_before is None or case.opened_at < wanted.opened_before,
            wanted.opened_after is None or case.opened_at >= wanted.opened_after,
            any(text in name for name in (case.code.lower(), case.site, *devices))
            or text == (case.leading or "").lower(),
        )
    )


def test_the_index_is_walked_with_the_same_answers_as_the_few_are_picked(record, monkeypatch):
    reader = RecordReader(record)

    asked = list(filters())

    def answers():
        for wanted in asked:
            page = reader.worklist(wanted, limit=7)
            everything = reader.worklist(wanted, limit=500)
            yield (
                wanted,
                [case.code for case in page.cases],
                [case.code for case in everything.cases],
                (page.matching, page.exact, page.by_urgency, page.by_status),
                str(page.following),
            )

    with record.session() as session:
        cases = session.scalars(select(CaseRow).order_by(CaseRow.place, CaseRow.opened_at, CaseRow.id)).all()
    picked = list(answers())
    monkeypatch.setattr(few_cases, "FEW", 0)
    walked = list(answers())
    for one, other in zip(picked, walked, strict=True):
        assert one == other
    assert len({tuple(codes) for _, _, codes, _, _ in picked}) > 20
    for wanted, _, codes, (matching, exact, by_urgency, _), _ in picked:
        assert exact
        assert codes == [case.code for case in cases if matches(case, wanted)], wanted
        assert matching == len(codes), wanted
        if not wanted.urgency:
            assert sum(by_urgency.values()) == matching


def test_the_order_and_what_matches_are_as_written_down(record):
    reader = RecordReader(record)
    with record.session() as session:
        rows = session.scalars(select(CaseRow)).all()
    expected = sorted(
        rows,
        key=lambda row: (row.status == "signed", URGENCIES.index(row.urgency), not row.stat, row.opened_at),
    )
    assert [case.code for case in reader.worklist(limit=500).cases] == [row.code for row in expected]
    for text in ("01", "AB", "pe-2", "cll"):
        found = {case.code for case in reader.worklist(CaseFilter(search=text), limit=500).cases}
        part = text.lower()
        assert found == {
            row.code
            for row in rows
            if part in row.code.lower()
            or part in row.devices
            or part in row.site
            or row.leading == text.upper()
        }


@pytest.mark.parametrize("wanted", [CaseFilter(status="open", site="ward"), CaseFilter(device="scope-1")])
@pytest.mark.parametrize("few", [1000, 0])
def test_pages_follow_each_other_by_key_while_cases_come(record, monkeypatch, few, wanted):
    monkeypatch.setattr(few_cases, "FEW", few)
    reader = RecordReader(record)
    whole = [case.code for case in reader.worklist(wanted, limit=500).cases]
    seen, page = [], reader.worklist(wanted, limit=4)
    assert page.previous is None
    make = Maker("ward", "scope-1")
    while True:
        seen += [case.code for case in page.cases]
        if page.following is None:
            break
        urgent = make.frame(f"NEW-{make.count}", image=IMAGE, priority="stat")
        RecordWriter(record).apply([urgent, make.diagnosis(urgent, "AML")])  # comes in front of what was read
        page = reader.worklist(wanted, limit=4, after=key_of(str(page.following)))
        assert page.previous is not None
    assert [code for code in seen if not code.startswith("NEW")] == whole
    back = reader.worklist(wanted, limit=4, before=page.previous)
    assert [case.code for case in back.cases][-1] == seen[seen.index(page.cases[0].code) - 1]
    assert key_of("9.1") is None
    assert key_of("9.999999999999999999.1") is None


def test_counts_words_and_microscopes_are_what_a_recount_finds(record):
    def kept():
        with record.session() as session:
            return kept_for_worklist(session)

    before = kept()
    with record.transaction() as session:
        recount_worklist(session)
    assert kept() == before
