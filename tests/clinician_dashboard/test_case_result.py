"""The rule that combines frames into a case's result, as properties."""

import math

from hypothesis import given
from hypothesis import strategies as st

from broker_config.messages import CLASSES, Quality
from clinician_dashboard.case_result import FrameReading, combine, quality_weight, wilson


@st.composite
def readings(draw, **fixed):
    raw = [draw(st.floats(0.001, 1.0)) for _ in CLASSES]
    total = sum(raw)
    return FrameReading(
        probabilities={name: value / total for name, value in zip(CLASSES, raw, strict=True)},
        decision=fixed.get("decision") or draw(st.sampled_from(["report", "refer"])),
        weight=draw(st.floats(0.25, 1.0)),
    )


def reading(decision="report", weight=1.0, **probabilities):
    rest = (1 - sum(probabilities.values())) / (len(CLASSES) - len(probabilities))
    return FrameReading({name: probabilities.get(name, rest) for name in CLASSES}, decision, weight)


@given(st.lists(readings(), max_size=12))
def test_shares_are_probabilities_inside_their_intervals(frames):
    result = combine(frames)
    assert result.counted + result.referred == len(frames)
    assert result.effective <= result.counted + 1e-9
    if result.counted:
        assert math.isclose(sum(share.probability for share in result.shares.values()), 1, abs_tol=1e-9)
    for share in result.shares.values():
        assert 0 <= share.low <= share.probability <= share.high <= 1


@given(st.lists(readings(), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(frames, random):
    shuffled = list(frames)
    random.shuffle(shuffled)
    one, other = combine(frames), combine(shuffled)
    assert (one.urgency, one.decision, one.leading) == (other.urgency, other.decision, other.leading)


@given(st.lists(readings(decision="report"), min_size=1, max_size=6), st.integers(2, 5))
def test_the_interval_narrows_as_the_same_evidence_comes_again(frames, times):
    once, often = combine(frames), combine(frames * times)
    for name in CLASSES:
        assert math.isclose(once.shares[name].probability, often.shares[name].probability, abs_tol=1e-9)
        assert (
            often.shares[name].high - often.shares[name].low < once.shares[name].high - once.shares[name].low
        )


@given(
    st.lists(readings(decision="report"), min_size=1, max_size=6),
    st.lists(readings(decision="refer"), max_size=6),
)
def test_referred_frames_change_no_probability_and_are_counted(reported, referred):
    assert combine(reported).shares == combine([*reported, *referred]).shares
    assert combine([*reported, *referred]).referred == len(referred)


@given(st.lists(readings(), max_size=10))
def test_acute_leukaemia_is_never_below_critical(frames):
    result = combine(frames)
    acute = sum(result.shares[name].probability for name in ("ALL", "AML")) if result.shares else 0.0
    assert (result.urgency == "critical") == (acute >= 0.5)


def test_urgency_by_the_table():
    assert combine([reading(AML=0.9)] * 3).urgency == "critical"
    assert (
        combine([reading(ALL=0.4, AML=0.4)] * 3).urgency == "critical"
    )  # acute, though the type is not settled
    assert combine([reading(ALL=0.4, AML=0.4)] * 3).decision == "refer"
    assert combine([reading(CLL=0.9)] * 3).urgency == "high"
    assert combine([reading(CML=0.9)] * 3).urgency == "high"
    assert combine([reading(healthy=0.9)] * 3).urgency == "routine"
    assert combine([reading(healthy=0.45, CLL=0.45)]).urgency == "refer"
    assert combine([reading("refer", healthy=0.9)] * 3).urgency == "refer"
    assert combine([reading(healthy=0.9), *[reading("refer", healthy=0.9)] * 2]).urgency == "refer"
    assert combine([]).urgency == "waiting"


def test_one_acute_frame_among_many_referred_stays_critical_and_is_referred():
    result = combine([reading(AML=0.95), *[reading("refer", AML=0.3)] * 9])
    assert (result.urgency, result.decision) == ("critical", "refer")
    assert "9 of 10" in result.reasons[0]


def test_a_poor_frame_weighs_less():
    sharp = Quality(focus=30, focus_threshold=10)
    assert quality_weight(sharp) == 1
    assert quality_weight(Quality()) == 1  # nothing measured, nothing held against it
    assert quality_weight(Quality(focus=10, focus_threshold=10)) == 0.5
    assert quality_weight(sharp.model_copy(update={"flags": ("soft_focus",)})) == 0.5
    assert quality_weight(sharp.model_copy(update={"flags": tuple("abcdefgh")})) == 0.25
    mixed = combine([reading(AML=0.9), reading(weight=0.25, healthy=0.9)])
    assert mixed.leading == "AML"


def test_wilson_matches_the_published_example():
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 gives 0.2553 to 0.3662.
    low, high = wilson(81 / 263, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
