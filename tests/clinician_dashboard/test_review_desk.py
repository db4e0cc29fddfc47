"""The review on a real record, both databases: claim to signature, second reader, amendment, critical loop, outbox."""

import pytest

from broker_config.desk_messages import Review
from broker_config.messages import Quality
from clinician_dashboard.access.roles import Actor
from clinician_dashboard.audit.tables import AuditRow
from clinician_dashboard.outbox.tables import OutboxRow
from clinician_dashboard.review.errors import (
    HeldByAnother,
    NoSuchCase,
    NotAllowed,
    NotReady,
    OutOfDate,
    OutOfOrder,
    Unusable,
)
from clinician_dashboard.review.reading import Word
from clinician_dashboard.review.signed import canonical_sha256
from clinician_dashboard.review.tables import OpinionRow, SignedVersionRow
from clinician_dashboard.review.waiting import MOST
from tests.clinician_dashboard.desk.reviewing import (
    ANNA,
    BEN,
    LEAD,
    TECHNICIAN,
    WARD,
    WrongPassword,
    opened,
)
from tests.clinician_dashboard.desk.stores import sqlite_store


@pytest.fixture
def place(tmp_path, make):
    yield from opened(sqlite_store(tmp_path / "desk").record(), make)


@pytest.fixture
def anywhere(store, make):
    """The same on both databases."""
    yield from opened(store.record(), make)


@pytest.fixture
def blind_place(tmp_path, make):
    yield from opened(sqlite_store(tmp_path / "desk").record(), make, blind_sites=("ward",))


def test_claim_view_confirm_and_sign(anywhere):
    place = anywhere
    frames = place.send("CLL", number=2)
    place.desk.claim(ANNA, *WARD)
    assert place.unmet(ANNA) == {"viewed", "conclusion", "agreed"}
    with pytest.raises(NotReady, match="Open at least one frame") as refused:
        place.desk.sign(ANNA, *WARD, password="wrong")  # not asked for while a gate is shut
    assert {gate.code for gate in refused.value.gates} == {"viewed", "conclusion", "agreed"}
    assert place.desk.view(ANNA, *WARD, frames) == 2
    assert place.desk.view(ANNA, *WARD, frames) == 0
    assert place.desk.conclude(ANNA, *WARD, Word("CLL", comment="<script>alert(1)</script>")) == "first"
    assert place.unmet(ANNA) == set()
    with pytest.raises(WrongPassword):
        place.desk.sign(ANNA, *WARD, password="wrong")
    assert place.rows(SignedVersionRow) == []
    made = place.desk.sign(ANNA, *WARD, password="right")
    assert (made.version, made.status, made.conclusion, made.agrees) == (1, "final", "CLL", True)
    assert made.genuine
    assert [one.frame_id for one in made.frames] == frames
    assert made.models[0]["weights_sha256"] == made.frames[0].weights_sha256
    review = place.facts().review
    assert (review.status, review.signed_by, review.claimed_by) == ("final", "anna", None)
    assert [row.action for row in place.rows(AuditRow)] == ["case.claim", "case.conclude", "case.sign"]
    (told,) = [Review.model_validate_json(row.payload) for row in place.rows(OutboxRow)]
    assert (told.case, told.status, told.content_sha256) == ("HL-1", "final", made.sha256)


def test_a_signature_that_was_changed_is_seen(place):
    frames = place.send("CLL")
    made = place.read_and_sign(frames=frames)
    content = dict(made.content) | {"amend_reason": "x"}
    assert canonical_sha256(content) != made.sha256
    with place.record.transaction() as session:
        session.get(SignedVersionRow, 1).content = content
    (changed,) = place.desk.versions(made.case_id)
    assert not changed.genuine


def test_two_people_cannot_have_or_sign_one_case(place):
    frames = place.send("CLL")
    place.desk.claim(ANNA, *WARD)
    with pytest.raises(HeldByAnother, match="Dr Anna Abel has this case"):
        place.desk.claim(BEN, *WARD)
    with pytest.raises(HeldByAnother):
        place.desk.conclude(BEN, *WARD, Word("CLL"))
    with pytest.raises(OutOfOrder):
        place.desk.release(BEN, *WARD)
    with pytest.raises(NotAllowed, match="Only the lab lead"):
        place.desk.take_over(BEN, *WARD, reason="it waits")
    with pytest.raises(Unusable, match="Say why"):
        place.desk.take_over(LEAD, *WARD, reason=" ")
    place.desk.take_over(LEAD, *WARD, reason="Anna has gone home")
    last = place.rows(AuditRow)[-1]
    assert (last.action, last.details) == (
        "case.take_over",
        {"taken_from": "anna", "reason": "Anna has gone home"},
    )
    with pytest.raises(NotReady):
        place.desk.sign(ANNA, *WARD, password="right")
    place.desk.view(LEAD, *WARD, frames)
    place.desk.conclude(LEAD, *WARD, Word("CLL"))
    place.desk.sign(LEAD, *WARD, password="right")
    assert len(place.rows(SignedVersionRow)) == 1


def test_a_claim_ends_by_itself_and_work_prolongs_it(place):
    frames = place.send("CLL")
    place.desk.claim(ANNA, *WARD)
    place.later(minutes=20)
    place.desk.view(ANNA, *WARD, frames)  # at work
    place.later(minutes=20)
    with pytest.raises(HeldByAnother):
        place.desk.claim(BEN, *WARD)
    place.later(minutes=11)
    place.desk.claim(BEN, *WARD)
    place.later(minutes=31)
    place.watch.look()
    assert place.facts().review.claimed_by is None
    assert place.heard[-1] == ("ward", "HL-1", False)


def test_a_page_that_is_out_of_date_changes_nothing(place):
    place.send("CLL")
    seen = place.facts().review.revision
    place.desk.claim(ANNA, *WARD, revision=seen)
    with pytest.raises(OutOfDate, match="still in the form"):
        place.desk.conclude(ANNA, *WARD, Word("CLL"), revision=seen)
    assert place.rows(OpinionRow) == []


def test_who_signs_what_was_signed_meanwhile_is_told_that_somebody_acted(place):
    (frame,) = place.send("CLL")
    place.desk.claim(ANNA, *WARD)
    place.desk.view(ANNA, *WARD, [frame])
    place.desk.conclude(ANNA, *WARD, Word("CLL"))
    seen = place.facts().review.revision  # by two windows that are both ready to sign
    place.desk.sign(ANNA, *WARD, password="right", revision=seen)
    with pytest.raises(OutOfDate, match="Somebody acted on this case"):
        place.desk.sign(ANNA, *WARD, password="right", revision=seen)
    assert place.facts().review.signed_version == 1


def test_what_cannot_be_used_is_said_and_not_kept(place):
    frames = place.send("CLL")
    place.desk.claim(ANNA, *WARD)
    for word, says in (
        (Word("melanoma"), "Choose a conclusion"),
        (Word("CLL", finer="M3"), "does not belong"),
        (Word("AML"), "choose the reason"),
        (Word("AML", reason="clinical"), "needs a comment"),
        (Word("other", reason="lineage"), "say what you found"),
        (Word("CLL", comment="x" * 2001), "at most 2000"),
        (Word("CLL", comment="a\x00b"), "NUL"),
    ):
        with pytest.raises(Unusable, match=says):
            place.desk.conclude(ANNA, *WARD, word)
    with pytest.raises(Unusable, match="why the frame is not assessable"):
        place.desk.resolve(ANNA, *WARD, frames[0], label="not_assessable")
    with pytest.raises(NoSuchCase):
        place.desk.view(ANNA, *WARD, ["0" * 32])
    with pytest.raises(NoSuchCase):
        place.desk.claim(ANNA, "ward", "HL-2\x00")
    with pytest.raises(NotAllowed, match="technician"):
        place.desk.claim(TECHNICIAN, *WARD)
    with pytest.raises(NotAllowed, match="integration"):
        place.desk.sign(Actor("lis", "lab_lead", via="api"), *WARD, password="right")
    assert place.rows(OpinionRow) == []


def test_flagged_frames_are_seen_and_referred_ones_resolved(place):
    place.send("CLL", number=3)
    flagged = place.make.frame("HL-1", quality=Quality(focus=11, focus_threshold=10, flags=("soft_focus",)))
    place.writer.apply([flagged, place.make.diagnosis(flagged, "CLL")])
    (referred,) = place.send("CLL", decision="refer", reasons=("ood: unlike",))
    place.desk.claim(ANNA, *WARD)
    place.desk.conclude(ANNA, *WARD, Word("CLL"))
    place.desk.view(ANNA, *WARD, [flagged.frame_id])
    assert place.unmet(ANNA) == {"viewed", "resolved"}
    place.desk.view(BEN, *WARD, [referred])  # somebody else's eyes do not count
    place.desk.resolve(BEN, *WARD, referred, label="not_assessable", reason="out_of_focus")
    assert place.unmet(ANNA) == {"viewed"}
    place.desk.resolve(ANNA, *WARD, referred, label="CLL")
    made = place.desk.sign(ANNA, *WARD, password="right")
    (one,) = [frame for frame in made.frames if frame.label]
    assert (one.frame_id, one.state, one.label, one.labelled_by) == (referred, "refer", "CLL", "anna")


def test_who_differs_needs_a_second_reader_and_two_who_differ_a_third(place):
    frames = place.send("CLL")
    place.desk.claim(ANNA, *WARD)
    place.desk.view(ANNA, *WARD, frames)
    place.desk.conclude(ANNA, *WARD, Word("CML", reason="maturation"))
    assert place.unmet(ANNA) == {"second", "agreed"}
    assert [(one.case.code, one.place) for one in place.desk.waiting(BEN)] == [("HL-1", "second")]
    assert place.desk.waiting(ANNA) == []
    assert place.desk.conclude(BEN, *WARD, Word("CLL")) == "second"
    with pytest.raises(NotReady, match="two readers disagree"):
        place.desk.sign(ANNA, *WARD, password="right")
    assert [one.place for one in place.desk.waiting(LEAD)] == ["third"]
    assert place.desk.conclude(LEAD, *WARD, Word("CML", reason="maturation")) == "adjudication"
    assert place.desk.waiting(TECHNICIAN) == []
    made = place.desk.sign(ANNA, *WARD, password="right")
    assert (made.conclusion, made.agrees, made.reason) == ("CML", False, "maturation")
    assert [one.stage for one in made.readings] == ["first", "second", "adjudication"]
    with pytest.raises(NotReady):
        place.desk.sign(BEN, *WARD, password="right")


def test_an_amendment_and_an_old_case_wait_for_another_reader_until_there_is_one(anywhere):
    place = anywhere
    place.read_and_sign(frames=place.send("CLL"))
    assert place.desk.waiting(BEN) == []
    place.desk.claim(ANNA, *WARD)
    place.desk.conclude(ANNA, *WARD, Word("CML", reason="maturation"))
    place.later(minutes=45)
    place.watch.look()
    assert place.facts().review.claimed_by is None
    for number in range(MOST):  # looked at since, and concluded by nobody
        site, code = "ward", f"HL-{number + 2}"
        place.send("CLL", case=code)
        place.desk.claim(ANNA, site, code)
        place.desk.release(ANNA, site, code)
    assert [(one.case.code, one.place) for one in place.desk.waiting(BEN)] == [("HL-1", "second")]
    assert place.desk.conclude(BEN, *WARD, Word("CML", reason="maturation")) == "second"
    assert place.desk.waiting(LEAD) == []


def test_two_who_agree_on_acute_leukaemia_after_all_outweigh_the_third(place):
    place.send("CLL")
    place.desk.claim(ANNA, *WARD)
    place.desk.conclude(ANNA, *WARD, Word("CML", reason="maturation"))
    place.desk.conclude(BEN, *WARD, Word("CLL"))
    assert place.desk.conclude(LEAD, *WARD, Word("CLL")) == "adjudication"
    place.desk.conclude(ANNA, *WARD, Word("AML", reason="maturation"))
    assert place.facts().case.urgency == "high"  # the third has decided between two who differ
    place.desk.conclude(BEN, *WARD, Word("AML", reason="maturation"))
    assert place.facts().standing.conclusion == "AML"
    assert place.facts().case.urgency == "critical"


def test_a_signed_version_is_amended_and_never_overwritten(anywhere):
    place = anywhere
    frames = place.send("CLL")
    first = place.read_and_sign(frames=frames)
    later = place.send("CLL")  # a frame that comes after the signature
    review = place.facts().review
    assert review.amend_needed
    assert review.status == "final"
    place.desk.claim(BEN, *WARD)
    place.desk.view(BEN, *WARD, later)
    place.desk.conclude(BEN, *WARD, Word("CLL"))
    with pytest.raises(NotReady, match="Say why the signed version is amended"):
        place.desk.sign(BEN, *WARD, password="right")
    with pytest.raises(Unusable, match="at most 500"):
        place.desk.sign(BEN, *WARD, password="right", amend_reason="x" * 501)
    second = place.desk.sign(BEN, *WARD, password="right", amend_reason="a frame came later")
    assert (second.version, second.status, second.amends_sha256) == (2, "amended", first.sha256)
    assert (len(first.frames), len(second.frames)) == (1, 2)
    assert place.desk.versions(first.case_id) == (first, second)
    assert not place.facts().review.amend_needed


def test_frames_that_still_wait_are_warned_of_and_accepted_in_so_many_words(place):
    frames = place.send("CLL")
    place.writer.apply([place.make.frame("HL-1")])
    with pytest.raises(NotReady, match="waits for an answer"):
        place.read_and_sign(frames=frames)
    made = place.desk.sign(ANNA, *WARD, password="right", warned=True)
    assert made.warnings == ("1 frame of this case waits for an answer.",)


def test_blind_first_keeps_the_impression_and_then_shows_the_answer(blind_place):
    place = blind_place
    place.send("CLL")
    place.desk.claim(ANNA, *WARD)
    assert place.desk.hidden(ANNA, place.facts())
    assert not place.desk.hidden(TECHNICIAN, place.facts())
    with pytest.raises(OutOfOrder, match="first impression"):
        place.desk.conclude(ANNA, *WARD, Word("CLL"))
    place.desk.impression(ANNA, *WARD, Word("CML"))
    assert not place.desk.hidden(ANNA, place.facts())
    assert place.desk.hidden(BEN, place.facts())
    with pytest.raises(OutOfOrder):
        place.desk.impression(ANNA, *WARD, Word("CLL"))
    place.desk.conclude(ANNA, *WARD, Word("CLL"))
    kept, said = place.rows(OpinionRow)
    assert (kept.stage, kept.conclusion, kept.differs, kept.blind) == ("impression", "CML", True, True)
    assert (said.stage, said.conclusion, said.differs, said.blind) == ("first", "CLL", False, True)


def test_a_reader_may_choose_blindness_for_themselves(place):
    place.send("CLL")
    case = place.facts().case
    assert place.desk.hidden_cases(ANNA, [case]) == frozenset()
    place.desk.choose_blind(ANNA, blind_first=True)
    assert place.desk.hidden_cases(ANNA, [case]) == {case.id}
    assert place.desk.hidden_cases(BEN, [case]) == frozenset()
    place.desk.choose_blind(ANNA, blind_first=False)
    assert not place.desk.hidden(ANNA, place.facts())


def test_earlier_smears_of_one_patient_stand_beside_the_present_one(place):
    place.send("CLL", case="HL-0")
    place.send("CLL")
    place.desk.name_patient(ANNA, "ward", "HL-0", "P-77")
    place.desk.name_patient(ANNA, *WARD, "P-77")
    (prior,) = place.desk.prior(place.facts().case)
    assert (prior.case.code, prior.why, len(prior.frames)) == ("HL-0", "patient", 1)
    with pytest.raises(Unusable, match="opaque"):
        place.desk.name_patient(ANNA, *WARD, "Jane Doe 1970")
