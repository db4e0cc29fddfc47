"""The judge: it finds what is lost, doubled or left out, and nothing else."""

import pytest

from hemolink.bench.faults.evidence import Diagnosed, Evidence, Kept, Spooled, Told
from hemolink.bench.faults.judge import judge
from hemolink.bench.faults.load import Given

EDGE = "edge-1"


def given(count):
    return [
        Given(number, EDGE, f"f{number:06d}.jpg", "plain", f"{number:064x}", float(number))
        for number in range(count)
    ]


def frame_id(number):
    return f"{number:032x}"


def kept(number, /, **changes):
    fields = {
        "frame_id": frame_id(number),
        "device": EDGE,
        "sequence": number,
        "number": number,
        "whole": True,
        "recorded": True,
    }
    return Kept(**(fields | changes))


@pytest.fixture
def found():
    return Evidence(
        kept=[kept(number) for number in range(5)],
        diagnosed=[Diagnosed(frame_id(number), "model", joined=True) for number in range(5)],
        next_sequence={EDGE: 5},
    )


def test_a_whole_record_holds(found):
    verdict = judge(given(5), found)
    assert verdict.holds
    assert verdict.recorded == set(range(5))
    assert (verdict.captured, len(verdict.lost), verdict.duplicates) == (5, 0, [])


def test_a_frame_taken_out_of_the_record_is_lost_and_leaves_a_gap(found):
    del found.kept[2]
    verdict = judge(given(5), found)
    assert list(verdict.lost) == [2]
    assert "f000002.jpg" in verdict.lost[2]
    assert verdict.gaps == ["edge-1: nobody speaks of the frames 2"]
    assert not verdict.holds


def test_a_diagnosis_taken_out_of_the_record_makes_a_frame_lost(found):
    del found.diagnosed[3]
    verdict = judge(given(5), found)
    assert list(verdict.lost) == [3]
    assert "without its diagnosis" in verdict.lost[3]


@pytest.mark.parametrize(
    ("change", "missing"),
    [({"whole": False}, "without its image"), ({"recorded": False}, "without the mark 'recorded'")],
)
def test_half_a_record_is_no_record(found, change, missing):
    found.kept[1] = kept(1, **change)
    verdict = judge(given(5), found)
    assert list(verdict.lost) == [1]
    assert missing in verdict.lost[1]


def test_one_picture_under_two_ids_is_a_duplicate(found):
    found.kept.append(kept(4, frame_id="f" * 32, sequence=5))
    found.diagnosed.append(Diagnosed("f" * 32, "model", joined=True))
    found.next_sequence[EDGE] = 6
    verdict = judge(given(5), found)
    assert len(verdict.duplicates) == 1
    assert "picture 4 is recorded 2 times" in verdict.duplicates[0]
    assert not verdict.holds


def test_two_rows_of_one_frame_and_two_answers_of_one_model_are_duplicates(found):
    found.kept.append(found.kept[0])
    found.diagnosed.append(found.diagnosed[1])
    found.diagnosed.append(Diagnosed(frame_id(2), "another model", joined=True))
    sentences = judge(given(5), found).duplicates
    assert any(f"frame {frame_id(0)} has 2 rows" in sentence for sentence in sentences)
    assert any(f"frame {frame_id(1)} has 2 diagnoses" in sentence for sentence in sentences)
    assert not any(frame_id(2) in sentence for sentence in sentences)


def test_whoever_is_told_of_a_frame_has_not_lost_it(found):
    found.refused[EDGE, "f000005.jpg"] = "blank"
    found.spooled.append(Spooled(EDGE, frame_id(6), 6, 6, "parked", "too large for the broker"))
    found.known[frame_id(7)] = Spooled(EDGE, frame_id(7), 7, 7, "sent", "")
    found.told.append(Told(None, EDGE, 7, "spool_damaged", "a page of the spool is unreadable"))
    found.known[frame_id(8)] = Spooled(EDGE, frame_id(8), 5, 8, "sent", "")
    found.told.append(Told(frame_id(8), EDGE, None, "kills_worker", "three deaths"))
    found.next_sequence[EDGE] = 8
    verdict = judge(given(9), found)
    assert verdict.refused == {5: "blank"}
    assert {number: reason.split(":")[0] for number, reason in verdict.told.items()} == {
        6: "parked",
        7: "spool_damaged",
        8: "kills_worker",
    }
    assert verdict.holds
    assert verdict.captured == 8


def test_a_frame_that_still_waits_is_not_settled(found):
    found.spooled.append(Spooled(EDGE, frame_id(5), 5, 5, "sent", ""))
    found.next_sequence[EDGE] = 6
    verdict = judge(given(6), found)
    assert list(verdict.lost) == [5]
    assert verdict.waiting == {5}
    assert "in the spool" in verdict.lost[5]


def test_two_frames_of_one_number_are_named(found):
    found.kept[4] = kept(4, sequence=3)
    verdict = judge(given(5), found)
    assert "edge-1: 2 frames bear the number 3" in verdict.gaps
    assert "edge-1: nobody speaks of the frames 4" in verdict.gaps


def test_a_recorded_frame_that_a_person_was_told_of_is_named_and_not_lost(found):
    found.told.append(Told(frame_id(1), EDGE, 1, "inference_failed", "it failed three times"))
    verdict = judge(given(5), found)
    assert list(verdict.contradicted) == [1]
    assert verdict.holds


def test_a_stranger_or_an_unreadable_spool_is_no_clean_bill(found):
    found.unreadable.append("the spool of edge-1 cannot be read (disk image is malformed)")
    assert not judge(given(5), found).holds
    found.unreadable.clear()
    found.kept.append(kept(99, number=None, sequence=4))
    assert judge(given(5), found).strangers == 1
