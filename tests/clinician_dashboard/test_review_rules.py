"""The review's pure rules: status table, whose conclusion stands, gates, blind reading; legal and illegal cases."""

from datetime import UTC, datetime, timedelta

import pytest

from clinician_dashboard.reports import vocabulary
from clinician_dashboard.review import status
from clinician_dashboard.review.blind import is_hidden
from clinician_dashboard.review.conclusions import CONCLUSIONS, FINER, REASONS, words_of
from clinician_dashboard.review.errors import OutOfOrder
from clinician_dashboard.review.gates import FrameFacts, SignOff, gates
from clinician_dashboard.review.opinions import Reading, Standing, differs_from_model, stage_of, stand

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

LEGAL = [
    ("preliminary", "sign", "final"),
    ("final", "amend", "amended"),
    ("amended", "amend", "amended"),
]
ILLEGAL = [("preliminary", "amend"), ("final", "sign"), ("amended", "sign")]


@pytest.mark.parametrize(("before", "act", "after"), LEGAL)
def test_legal_acts_lead_where_the_table_says(before, act, after):
    assert status.after(before, act) == after


@pytest.mark.parametrize(("before", "act"), ILLEGAL)
def test_illegal_acts_are_refused_with_the_reason(before, act):
    with pytest.raises(OutOfOrder, match=before):
        status.after(before, act)


def test_the_table_has_every_pair_or_refuses_it():
    assert {(before, act) for before, act, _ in LEGAL} | set(ILLEGAL) == {
        (before, act) for before in ("preliminary", "final", "amended") for act in ("sign", "amend")
    }


def first(conclusion="healthy", *, differs=False, reader="anna"):
    return Reading(reader, "first", conclusion, differs)


def second(conclusion="healthy", reader="ben"):
    return Reading(reader, "second", conclusion, None)


@pytest.mark.parametrize(
    ("said", "critical", "needs_second", "stands", "signers"),
    [
        ([], True, False, None, set()),
        ([Reading("anna", "impression", "AML")], False, False, None, set()),
        ([first()], False, False, "healthy", {"anna"}),
        ([first()], True, True, None, set()),  # the model suspects acute leukaemia
        ([first("AML")], False, True, None, set()),  # the reader does
        ([first("CLL", differs=True)], False, True, None, set()),
        ([first("CLL", differs=None)], False, False, "CLL", {"anna"}),  # the model did not answer
        ([first("AML"), second("AML")], True, True, "AML", {"anna", "ben"}),
        ([first("AML"), second("ALL")], True, True, None, set()),
        ([first("AML"), second("ALL"), second("AML")], True, True, "AML", {"anna", "ben"}),  # a mind changed
        (
            [first("AML"), second("ALL"), Reading("cleo", "adjudication", "ALL")],
            True,
            True,
            "ALL",
            {"ben", "cleo"},
        ),
        ([first(), second("CLL")], False, False, None, set()),  # not asked for, and still heard
    ],
)
def test_whose_conclusion_stands(said, critical, needs_second, stands, signers):
    standing = stand(said, critical=critical)
    assert (bool(standing.second_needed), standing.conclusion, set(standing.signers)) == (
        needs_second,
        stands,
        signers,
    )


def test_each_reader_has_one_place_and_a_third_only_where_two_disagree():
    said = []
    assert stage_of("anna", said, critical=True) == "first"
    said.append(first("AML"))
    assert stage_of("anna", said, critical=True) == "first"  # a later word of the same reader
    assert stage_of("ben", said, critical=True) == "second"
    said.append(second("ALL"))
    assert stage_of("cleo", said, critical=True) == "adjudication"
    said.append(Reading("cleo", "adjudication", "AML"))
    assert stage_of("dan", said, critical=True) is None
    agreed = [first("AML"), second("AML")]
    assert stage_of("cleo", agreed, critical=True) is None


def test_a_model_that_refers_is_not_differed_from():
    assert differs_from_model("AML", decision="report", leading="AML") is False
    assert differs_from_model("CLL", decision="report", leading="AML") is True
    assert differs_from_model("insufficient", decision="report", leading="AML") is True
    assert differs_from_model("AML", decision="refer", leading="AML") is None
    assert differs_from_model("AML", decision="refer", leading=None) is None


def ready(**changes):
    """A sign-off whose every gate is met."""
    facts = {
        "signer": "anna",
        "at": NOW,
        "claimed_by": "anna",
        "claim_expires_at": NOW + timedelta(minutes=1),
        "standing": stand([first("AML"), second("AML")], critical=True),
        "frames": FrameFacts(recorded=4, flagged=2, unseen=0, seen=3, unresolved=0),
        "critical": True,
        "acknowledged": True,
        "called": True,
    }
    return SignOff(**(facts | changes))


def blocked(case):
    return {gate.code for gate in gates(case) if gate.blocks}


def test_a_case_that_meets_every_gate_may_be_signed():
    assert blocked(ready()) == set()
    assert all(gate.met for gate in gates(ready()))


@pytest.mark.parametrize(
    ("changes", "unmet"),
    [
        ({"claimed_by": "ben"}, {"claim"}),
        ({"claimed_by": ""}, {"claim"}),
        ({"claim_expires_at": NOW}, {"claim"}),  # it has just ended
        ({"frames": FrameFacts(recorded=4, flagged=2, unseen=1, seen=1)}, {"viewed"}),
        ({"frames": FrameFacts(recorded=4)}, {"viewed"}),  # nothing flagged, nothing opened
        ({"frames": FrameFacts(recorded=4, flagged=1, seen=1, unresolved=1)}, {"resolved"}),
        ({"standing": Standing()}, {"conclusion", "second", "agreed"}),
        ({"standing": stand([first("AML")], critical=True)}, {"second", "agreed"}),
        ({"standing": stand([first("AML"), second("ALL")], critical=True)}, {"agreed"}),
        (
            {
                "standing": stand(
                    [first("AML"), second("ALL"), Reading("cleo", "adjudication", "ALL")], critical=True
                )
            },
            {"agreed"},  # anna's is not the one that stands
        ),
        ({"called": False}, {"call"}),
        ({"called": False, "acknowledged": False}, {"call"}),
        ({"called": False, "critical": False}, set()),
        ({"amending": True}, {"reason"}),
        ({"amending": True, "amend_reason": "  "}, {"reason"}),
        ({"amending": True, "amend_reason": "flow cytometry"}, set()),
    ],
)
def test_each_gate_blocks_alone_and_says_where_it_is_resolved(changes, unmet):
    case = ready(**changes)
    assert blocked(case) == unmet
    for gate in gates(case):
        assert gate.sentence.endswith(".") or gate.sentence.endswith("signs.")
        if gate.blocks and "not yours" not in gate.sentence:
            assert gate.link


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"frames": FrameFacts(recorded=1, seen=1, waiting=2)}, "waiting"),
        ({"frames": FrameFacts(recorded=1, seen=1, missing=1)}, "missing"),
        ({"came_since": 1}, "later"),
    ],
)
def test_frames_on_their_way_warn_and_do_not_block(changes, code):
    case = ready(**changes)
    assert blocked(case) == set()
    assert [gate.code for gate in gates(case) if not gate.met] == [code]


def test_blind_hides_from_readers_until_they_have_spoken():
    fresh = {"reads": True, "wanted": True, "signed": False, "has_spoken": False}
    assert is_hidden(**fresh)
    for name, value in (("reads", False), ("wanted", False), ("signed", True), ("has_spoken", True)):
        assert not is_hidden(**(fresh | {name: value})), name


def test_every_code_comes_with_its_display_and_the_two_tables_agree():
    for name, code in vocabulary.DISORDERS.items():
        assert CONCLUSIONS[name].snomed == (code.code, code.display)
    pairs = [
        one.snomed
        for one in (*CONCLUSIONS.values(), *REASONS.values(), *(one for of in FINER.values() for one in of))
        if one.snomed
    ]
    assert all(code.isdecimal() and display for code, display in pairs)
    assert len({code for code, _ in pairs}) == len(set(pairs))  # one display for each code
    assert "APL" in words_of("AML", "M3")
