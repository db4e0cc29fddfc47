"""How the frames of a case combine into the case's result: one pure function.

The rule, in full
    1. A frame counts if its own decision was ``report``. Referred frames are left out of the average, and counted.
    2. Each counting frame has a weight between 0.25 and 1 from its image quality (`quality_weight`).
    3. The case's probabilities are the weighted mean of the frames' calibrated probabilities.
    4. The interval of each is Wilson's 95 % score interval for a proportion (E. B. Wilson, JASA 22, 1927) at Kish's
       effective number of frames, (sum w)^2 / sum w^2. It treats each frame as one independent reading, so it narrows
       as frames come; frames of one smear share their stain and their slide, so read it as the least uncertainty.
    5. The decision is ``refer`` when no frame counts, when more frames were referred than counted, or when no class
       reaches 60 %; otherwise ``report``.
    6. What a model version answered that a lab lead has stopped does not count: its frames are referred.
    7. Urgency, first line that holds:

       ========  ==============================================================================
       critical  acute leukaemia suspected: P(ALL) + P(AML) of at least 50 %, whatever the decision
       refer     the decision is ``refer``: a person must read the smear
       high      CLL or CML leads
       routine   healthy leads
       ========  ==============================================================================

       A case none of whose frames has been read yet is ``waiting``.
    8. A reader who suspects acute leukaemia makes the case ``critical``, whatever the model says (`with_reader`). A
       reader who does not suspect it takes nothing away from what the model says.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from broker_config.messages import CLASSES, Decision, DiseaseClass, Quality

Urgency = Literal["critical", "high", "refer", "routine", "waiting"]
URGENCIES: tuple[Urgency, ...] = get_args(Urgency)
"""In the order of the worklist: the first is seen first."""

ACUTE: tuple[DiseaseClass, ...] = ("ALL", "AML")
CHRONIC: tuple[DiseaseClass, ...] = ("CLL", "CML")
LEAD_NEEDED = 0.6
ACUTE_SUSPECTED = 0.5
LEAST_WEIGHT = 0.25
Z95 = 1.959963984540054


@dataclass(frozen=True)
class FrameReading:
    """What one frame contributes.

    Attributes:
        probabilities: Calibrated, by class; the five sum to one.
        decision: The frame's own decision.
        weight: From `quality_weight`, 0.25 to 1.
    """

    probabilities: Mapping[DiseaseClass, float]
    decision: Decision
    weight: float = 1.0


@dataclass(frozen=True)
class Share:
    """A class's probability in the case, with its 95 % interval; all between 0 and 1."""

    probability: float
    low: float
    high: float


@dataclass(frozen=True)
class CaseResult:
    """The case's preliminary result.

    Attributes:
        decision: ``report`` or ``refer``.
        urgency: Where it stands in the worklist.
        leading: The class with the highest probability, or none when no frame counts.
        shares: By class, in the order of `CLASSES`; empty when no frame counts.
        counted: Frames that were averaged.
        referred: Frames left out.
        effective: Kish's effective number of counted frames, at most ``counted``.
        reasons: Why a person must read it, as sentences; empty when the decision is ``report``.
        stopped: Frames among ``referred`` that a stopped model version has read.
    """

    decision: Decision
    urgency: Urgency
    leading: DiseaseClass | None
    shares: Mapping[DiseaseClass, Share]
    counted: int
    referred: int
    effective: float
    reasons: tuple[str, ...]
    stopped: int = 0


def quality_weight(quality: Quality) -> float:
    """Return a frame's weight, 0.25 to 1: less for every quality flag, and for focus close to the gate's threshold.

    Each flag halves it. Focus at the threshold halves it too; at twice the threshold or above it costs nothing.
    """
    weight = 0.5 ** len(quality.flags)
    if quality.focus_threshold > 0:
        weight *= min(1.0, max(0.5, quality.focus / (2 * quality.focus_threshold)))
    return max(LEAST_WEIGHT, weight)


def wilson(proportion: float, number: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of ``proportion`` seen in ``number`` (positive, may be a fraction) trials."""
    spread = Z95 * Z95 / number
    centre = (proportion + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * (proportion * (1 - proportion) / number + spread / (4 * number)) ** 0.5
    return max(0.0, min(proportion, centre - half)), min(1.0, max(proportion, centre + half))


@dataclass
class Totals:
    """The sums over a case's frames that its result needs, so that one more frame costs the same in a case of any size.

    Attributes:
        counted: Frames whose own decision was ``report``.
        referred: Frames left out.
        weight: Sum of the counting frames' weights.
        squares: Sum of the squared weights.
        sums: By class, the sum of weight times probability.
    """

    counted: int = 0
    referred: int = 0
    weight: float = 0.0
    squares: float = 0.0
    sums: dict[DiseaseClass, float] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0.0))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Totals":
        """Return the totals that `dataclasses.asdict` made ``fields`` of; all zero if there are none."""
        names = ("counted", "referred", "weight", "squares")
        totals = cls(**{name: fields[name] for name in names if name in fields})
        totals.sums.update(fields.get("sums", {}))
        return totals

    def add(self, reading: FrameReading) -> None:
        """Take a frame in."""
        self._change(reading, 1)

    def remove(self, reading: FrameReading) -> None:
        """Take a frame out that was taken in before: another model's answer counts now."""
        self._change(reading, -1)
        if not self.counted:  # what rounding left behind
            self.weight = self.squares = 0.0
            self.sums = dict.fromkeys(CLASSES, 0.0)

    def _change(self, reading: FrameReading, sign: int) -> None:
        if reading.decision != "report":
            self.referred += sign
            return
        self.counted += sign
        self.weight += sign * reading.weight
        self.squares += sign * reading.weight**2
        for name in CLASSES:
            self.sums[name] += sign * reading.weight * reading.probabilities[name]

    def merge(self, other: "Totals") -> None:
        """Add another model's frames of the same case."""
        self.counted += other.counted
        self.referred += other.referred
        self.weight += other.weight
        self.squares += other.squares
        for name in CLASSES:
            self.sums[name] += other.sums[name]

    def result(self, *, stopped: int = 0) -> CaseResult:
        """Return the case's result; see the module's docstring for the rule.

        Args:
            stopped: Frames that only a stopped model version has read; they are among ``referred``.
        """
        if not self.counted:
            return _without_answer(self.referred, stopped=stopped)
        effective = min(self.weight**2 / self.squares, float(self.counted))
        shares: dict[DiseaseClass, Share] = {}
        for name in CLASSES:
            mean = min(1.0, max(0.0, self.sums[name] / self.weight))
            shares[name] = Share(mean, *wilson(mean, effective))
        leading = max(CLASSES, key=lambda name: shares[name].probability)
        reasons = _of_stopped(stopped)
        if self.referred > self.counted:
            reasons.append(
                f"{self.referred} of {self.counted + self.referred} frames were referred: too few are left to answer for "
                "the smear."
            )
        if shares[leading].probability < LEAD_NEEDED:
            reasons.append(f"Undecided: no class reaches {LEAD_NEEDED:.0%} over the case.")
        # Frames of a stopped model alone are told, and leave the answer of the others as it is.
        decision: Decision = "refer" if len(reasons) > bool(stopped) else "report"
        return CaseResult(
            decision=decision,
            urgency=_urgency(shares, leading, decision),
            leading=leading,
            shares=shares,
            counted=self.counted,
            referred=self.referred,
            effective=effective,
            reasons=tuple(reasons),
            stopped=stopped,
        )


def combine(readings: Sequence[FrameReading]) -> CaseResult:
    """Combine the frames of one case; see the module's docstring for the rule. Their order does not matter."""
    totals = Totals()
    for reading in readings:
        totals.add(reading)
    return totals.result()


def with_reader(urgency: Urgency, *, suspects: bool) -> Urgency:
    """Return a case's urgency in the worklist, from the model's and from what readers say. Pure.

    Args:
        urgency: By the model's answers alone.
        suspects: Whether acute leukaemia is among what readers say (`clinician_dashboard.review.opinions.suspects_acute`).
    """
    return "critical" if suspects else urgency


def combine_models(
    by_model: Mapping[str, Totals], *, stopped: Collection[str] = ()
) -> tuple[Totals, CaseResult]:
    """Combine the sums that a case keeps for each model version.

    Args:
        by_model: By the model's weights, the frames whose counting answer is that model's.
        stopped: Weights of stopped model versions.

    Returns:
        The sums over the case, and its result.
    """
    whole, unused = Totals(), 0
    for weights, totals in by_model.items():
        if weights in stopped:
            frames = totals.counted + totals.referred
            unused += frames
            whole.referred += frames
        else:
            whole.merge(totals)
    return whole, whole.result(stopped=unused)


def _of_stopped(frames: int) -> list[str]:
    if not frames:
        return []
    was = "frame was" if frames == 1 else "frames were"
    return [f"{frames} {was} read by a model version that has been stopped: its answers are not to be used."]


def _without_answer(referred: int, *, stopped: int = 0) -> CaseResult:
    return CaseResult(
        decision="refer",
        urgency="refer" if referred else "waiting",
        leading=None,
        shares={},
        counted=0,
        referred=referred,
        effective=0.0,
        reasons=(
            *_of_stopped(stopped),
            "No frame was reportable: a person must read this smear."
            if referred
            else "No frame has been read yet.",
        ),
        stopped=stopped,
    )


def _urgency(shares: Mapping[DiseaseClass, Share], leading: DiseaseClass, decision: Decision) -> Urgency:
    if sum(shares[name].probability for name in ACUTE) >= ACUTE_SUSPECTED:
        return "critical"
    if decision == "refer":
        return "refer"
    return "high" if leading in CHRONIC else "routine"
