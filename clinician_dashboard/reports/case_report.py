"""What a report may say of a case: one frozen value, from which every format is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from broker_config.messages import DiseaseClass
from clinician_dashboard.case_result import CaseResult, Urgency
from clinician_dashboard.record.frame_list import FrameState
from clinician_dashboard.review.conclusions import CONCLUSIONS, Conclusion

Status = Literal["preliminary", "final", "amended"]
"""FHIR's words: nobody has signed; signed once; signed again with a reason."""

AbnormalFlag = Literal["", "N", "A", "AA"]
_FLAG_OF: dict[Urgency, AbnormalFlag] = {
    "critical": "AA",
    "high": "A",
    "routine": "N",
    "refer": "",
    "waiting": "",
}


@dataclass(frozen=True)
class Call:
    """How a critical finding was told.

    Attributes:
        to: To whom, by role.
        at: When.
        by: Who called.
        read_back: Whether it was read back.
    """

    to: str
    at: datetime
    by: str
    read_back: bool


@dataclass(frozen=True)
class Earlier:
    """A signed version that a later one took the place of."""

    version: int
    status: Status
    words: str
    signer: str
    signed_at: datetime
    sha256: str


@dataclass(frozen=True)
class Signature:
    """What a clinician concluded and signed.

    Attributes:
        version: 1 for the first, higher for each amendment.
        conclusion: A code of `clinician_dashboard.review.conclusions`.
        finer: A finer code within it; empty if there is none.
        words: The conclusion in words.
        comment: The signer's free text; may be empty.
        agrees: Whether it is what the model said; none where the model gave no answer.
        reason: Why it differs from the model, in words; empty if it does not.
        name: The signer's full name.
        login: The signer's login.
        role: The signer's role, in words.
        signed_at: When.
        second: Name of the second reader; empty if there was none.
        adjudicator: Name of who decided between two readers; empty if nobody had to.
        amend_reason: Why the version before was amended; empty in version 1.
        sha256: Of the signed content, as the record's audit has it.
        call: How a critical finding was told; none if there was none to tell.
        warnings: What the signer signed in spite of, as sentences.
        earlier: The versions before this one, the first first.
        superseded_by: The version that took this one's place; none if it is the newest.
    """

    version: int
    conclusion: str
    finer: str
    words: str
    comment: str
    agrees: bool | None
    reason: str
    name: str
    login: str
    role: str
    signed_at: datetime
    second: str
    adjudicator: str
    amend_reason: str
    sha256: str
    call: Call | None
    warnings: tuple[str, ...] = ()
    earlier: tuple[Earlier, ...] = ()
    superseded_by: int | None = None

    @property
    def status(self) -> Status:
        """``final`` for the first version, ``amended`` after it."""
        return "final" if self.version == 1 else "amended"


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
        version: Of a preliminary report the case's revision in the record, of a signed one its signed version. Each rises.
        made_at: When this report was made.
        opened_at: The first capture.
        changed_at: The last change of the case.
        result_at: When the first answer was recorded; none if there is none.
        stat: Whether any frame was sent as urgent.
        simulated: Whether a frame or a model of the case is simulated; then every report says so.
        headline: The model's result in one line.
        result: The case's result, by the rule of `clinician_dashboard.case_result`.
        microscopes: Devices that took frames of it.
        workers: Workers whose answers the listed frames carry.
        by_state: Frames of the case in each state.
        frames: The frames listed; see `choose_frames`. The case may have more.
        referrals: Reasons of referred frames, the most frequent first.
        referrals_seen: Over how many referred frames ``referrals`` was counted.
        models: Every model whose answer counts.
        software: This program's version.
        raised_by_reader: Whether a reader suspects acute leukaemia and the model does not; only of a case that nobody has signed.
        signature: What a clinician signed; none while nobody has, and then the report is preliminary. The rest of the report
            is then what lay before the signer.
    """

    site: str
    code: str
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
    raised_by_reader: bool = False
    signature: Signature | None = None

    @property
    def status(self) -> Status:
        """``preliminary`` while nobody has signed."""
        return self.signature.status if self.signature else "preliminary"

    @property
    def statement(self) -> str:
        """The report's result in one line: the signer's, or while there is none the model's."""
        return self.signature.words if self.signature else self.headline

    @property
    def as_of(self) -> datetime:
        """When the result became what it is."""
        return self.signature.signed_at if self.signature else self.changed_at

    @property
    def conclusion(self) -> Conclusion | None:
        """What is known of the signer's conclusion; none while there is none."""
        return CONCLUSIONS.get(self.signature.conclusion) if self.signature else None

    @property
    def frame_count(self) -> int:
        """Frames of the case, in whatever state."""
        return sum(self.by_state.values())

    @property
    def read(self) -> int:
        """Frames that a model answered, reported or referred."""
        return self.by_state.get("report", 0) + self.by_state.get("refer", 0)

    @property
    def critical(self) -> bool:
        """Whether acute leukaemia is suspected, by the model or a reader, and nobody has signed yet."""
        return self.signature is None and (self.raised_by_reader or self.result.urgency == "critical")

    @property
    def flag(self) -> AbnormalFlag:
        """HL7's interpretation of the report's result: AA acute leukaemia, A another finding, N none; empty if undecided."""
        if self.signature is None:
            return "AA" if self.critical else self.model_flag
        known = self.conclusion
        if known is None or known.code == "insufficient":
            return ""
        if known.acute:
            return "AA"
        return "N" if known.code == "healthy" else "A"

    @property
    def model_flag(self) -> AbnormalFlag:
        """HL7's interpretation of the model's result: AA where acute leukaemia is suspected, A chronic, N none."""
        return _FLAG_OF[self.result.urgency]

    def flag_of(self, name: DiseaseClass) -> AbnormalFlag:
        """Return the interpretation of one class's probability; only what makes the case abnormal is flagged."""
        if self.result.urgency == "critical":
            return "AA" if name in ("ALL", "AML") and self._leads_among_acute(name) else ""
        return self.model_flag if name == self.result.leading else ""

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
