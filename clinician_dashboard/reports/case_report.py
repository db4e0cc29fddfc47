"""What a report may say of a case: one frozen value, from which every format is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from broker_config.messages import DiseaseClass
from clinician_dashboard.case_result import CaseResult, Urgency
from clinician_dashboard.record.frame_list import FrameState

Status = Literal["preliminary"]
"""Only this as yet: a report becomes final when a clinician signs, and the record has no signatures."""

AbnormalFlag = Literal["", "N", "A", "AA"]
_FLAG_OF: dict[Urgency, AbnormalFlag] = {
    "critical": "AA",
    "high": "A",
    "routine": "N",
    "refer": "",
    "waiting": "",
}


@dataclass(frozen=True)
class ReportModel:
    """A model whose answers count in the case, with what it was trained on, in its card's own words."""

    name: str
    version: str
    weights_sha256: str
    architecture: str
    engine: str
    training_data: str
    simulated: bool


@dataclass(frozen=True)
class ReportFrame:
    """One frame and the answer that counts for it, the latest.

    Attributes:
        number: Its place in the case, from 1, in the order of capture.
        state: ``report``, ``refer``, ``waiting`` or ``refused``.
        prediction: The model's class, also where it refers; none where nothing was answered.
        probabilities: Calibrated, by class, 0 to 1; empty where nothing was answered.
        reasons: Why it was referred, as sentences.
        flags: What the quality gate noticed, in words.
        simulated: What is simulated, in words; empty if nothing is.
        activation: Where the model looked: 7 rows of 7 numbers between 0 and 1; empty where nothing was answered.
    """

    number: int
    frame_id: str
    device: str
    captured_at: datetime
    state: FrameState
    prediction: DiseaseClass | None
    probabilities: Mapping[DiseaseClass, float]
    reasons: tuple[str, ...]
    flags: tuple[str, ...]
    simulated: str
    encoding: str
    width: int
    height: int
    pixel_size_um: float | None
    image_sha256: str
    worker: str
    weights_sha256: str
    activation: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Referral:
    """A reason to refer, and how many of the frames that were looked at gave it."""

    code: str
    sentence: str
    frames: int


@dataclass(frozen=True)
class CaseReport:
    """What the record knows of a case at one moment. It holds no patient's identity: the case code is an opaque accession.

    Attributes:
        site: Whose case code it is.
        code: The case's accession code.
        status: ``preliminary``: nothing is signed.
        version: The case's revision in the record; it rises with each change, so a later report has a higher one.
        made_at: When this report was made.
        opened_at: The first capture.
        changed_at: The last change of the case.
        result_at: When the first answer was recorded; none if there is none.
        stat: Whether any frame was sent as urgent.
        simulated: Whether a frame or a model of the case is simulated; then every report says so.
        headline: The result in one line.
        result: The case's result, by the rule of `clinician_dashboard.case_result`.
        microscopes: Devices that took frames of it.
        workers: Workers whose answers the listed frames carry.
        by_state: Frames of the case in each state.
        frames: The frames listed; see `choose_frames`. The case may have more.
        referrals: Reasons of referred frames, the most frequent first.
        referrals_seen: Over how many referred frames ``referrals`` was counted.
        models: Every model whose answer counts.
        software: This program's version.
    """

    site: str
    code: str
    status: Status
    version: int
    made_at: datetime
    opened_at: datetime
    changed_at: datetime
    result_at: datetime | None
    stat: bool
    simulated: bool
    headline: str
    result: CaseResult
    microscopes: tuple[str, ...]
    workers: tuple[str, ...]
    by_state: Mapping[FrameState, int]
    frames: tuple[ReportFrame, ...]
    referrals: tuple[Referral, ...]
    referrals_seen: int
    models: tuple[ReportModel, ...]
    software: str

    @property
    def frame_count(self) -> int:
        """Frames of the case, in whatever state."""
        return sum(self.by_state.values())

    @property
    def read(self) -> int:
        """Frames that a model answered, reported or referred."""
        return self.by_state.get("report", 0) + self.by_state.get("refer", 0)

    @property
    def flag(self) -> AbnormalFlag:
        """HL7's interpretation of the result: AA where acute leukaemia is suspected, A chronic, N none; empty if undecided."""
        return _FLAG_OF[self.result.urgency]

    def flag_of(self, name: DiseaseClass) -> AbnormalFlag:
        """Return the interpretation of one class's probability; only what makes the case abnormal is flagged."""
        if self.result.urgency == "critical":
            return "AA" if name in ("ALL", "AML") and self._leads_among_acute(name) else ""
        return self.flag if name == self.result.leading else ""

    def _leads_among_acute(self, name: DiseaseClass) -> bool:
        shares = self.result.shares
        return shares[name].probability >= max(shares["ALL"].probability, shares["AML"].probability)


def choose_frames(
    frames: Sequence[ReportFrame], limit: int, *, leading: DiseaseClass | None
) -> tuple[ReportFrame, ...]:
    """Return at most ``limit`` frames that show the case fairly, in the order of capture.

    Up to half are referred frames; the reported ones are spread evenly from the strongest for the leading class to the
    strongest against it, so that what speaks against the result is shown too. Frames without an answer fill the rest.
    """
    if len(frames) <= limit:
        return tuple(sorted(frames, key=lambda frame: frame.number))
    reported = [frame for frame in frames if frame.state == "report"]
    referred = [frame for frame in frames if frame.state == "refer"]
    unread = [frame for frame in frames if frame.state not in ("report", "refer")]
    if leading is not None:
        reported.sort(key=lambda frame: -frame.probabilities.get(leading, 0.0))
    room_for_referred = max(limit // 2, limit - len(reported))
    chosen = spread(referred, room_for_referred)
    chosen += spread(reported, limit - len(chosen))
    chosen += spread(unread, limit - len(chosen))
    return tuple(sorted(chosen, key=lambda frame: frame.number))


def spread(frames: Sequence[ReportFrame], limit: int) -> list[ReportFrame]:
    """Return at most ``limit`` of ``frames``, evenly spaced, first and last among them where there is room for two."""
    if len(frames) <= limit:
        return list(frames)
    if limit <= 1:
        return list(frames[:limit])
    step = (len(frames) - 1) / (limit - 1)
    return [frames[round(place * step)] for place in range(limit)]
