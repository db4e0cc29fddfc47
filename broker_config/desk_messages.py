"""What the desk says: what a clinician signed, what has become of a critical finding, and what a case's frames amount to."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from broker_config.messages import (
    LARGEST_COUNT,
    CaseCode,
    Count,
    Decision,
    DiseaseClass,
    Fraction,
    Level,
    Message,
    Moment,
    Sha256,
    Text,
)

ReviewStatus = Literal["final", "amended"]
AlertState = Literal["open", "acknowledged", "escalated", "closed"]


class Review(Message):
    """A clinician signed a case, or amended what was signed.

    It goes to every device that took frames of the case, and to whoever follows; once for each, and again after a crash.
    The signed version itself, with the signer's name, stays in the record: ``content_sha256`` says which it is.
    """

    kind: ClassVar[str] = "review"

    case: CaseCode
    site: Level
    device: Level
    version: Annotated[int, Field(ge=1, le=LARGEST_COUNT, description="1 is final, later ones amend it")]
    status: ReviewStatus
    conclusion: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_]{1,20}$", description="healthy, ALL, AML, CLL, CML, other or insufficient"
        ),
    ]
    finer: Text = Field("", description="a finer label within the conclusion")
    agrees: bool | None = Field(None, description="with the model; none where the model did not answer")
    frames: Annotated[int, Field(ge=0, le=LARGEST_COUNT, description="frames that the signature covers")] = 0
    content_sha256: Sha256
    signed_at: Moment
    simulated: bool = False
    by: Level


class Alert(Message):
    """A critical finding, and what has become of it: a person must be told, and this says whether one was."""

    kind: ClassVar[str] = "alert"

    case: CaseCode
    site: Level
    device: Level
    state: AlertState
    cause: Text = Field("", description="model or reader: who suspects acute leukaemia")
    opened_at: Moment
    due_at: Moment = Field(description="not acknowledged by then, it is escalated to the lab lead")
    simulated: bool = False
    by: Level
    at: Moment


class ClassShare(BaseModel):
    """A class's probability over a case's frames, with its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    probability: Fraction
    low: Fraction
    high: Fraction


class CaseUpdate(Message):
    """A case's preliminary result, combined from its frames by the rule of the record; the latest one counts.

    AI preliminary, not a diagnosis: what a clinician signed travels as a `Review`. It goes out on the topic of one device
    that took frames of the case, at most once a second for a case, and not for every step in between.
    """

    kind: ClassVar[str] = "case"

    case: CaseCode
    site: Level
    device: Level
    revision: Annotated[
        int, Field(ge=0, le=LARGEST_COUNT, description="rises with each change; a lower one is late")
    ]
    status: Literal["preliminary"] = "preliminary"
    decision: Decision
    urgency: Literal["critical", "high", "refer", "routine", "waiting"]
    raised_by_reader: bool = Field(
        default=False, description="critical by a reader's word alone; all else here is the model's"
    )
    leading: DiseaseClass | None = None
    shares: dict[DiseaseClass, ClassShare] = Field(default_factory=dict)
    counted: Count
    referred: Count
    stopped: Annotated[
        int, Field(ge=0, le=LARGEST_COUNT, description="referred because their model version was stopped")
    ] = 0
    waiting: Count = 0
    reasons: tuple[Text, ...] = ()
    opened_at: Moment
    changed_at: Moment
    simulated: bool = False
    by: Level
