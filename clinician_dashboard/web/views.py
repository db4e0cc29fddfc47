"""What the templates are given: rows of the record turned into what a clinician reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker_config.messages import CLASSES, now
from clinician_dashboard.record.frame_list import FrameState, ListedFrame
from clinician_dashboard.record.missing import Missing
from clinician_dashboard.record.presence import Presence, as_fields, presence_of
from clinician_dashboard.record.tables import (
    CaseRow,
    DeviceRow,
    DiagnosisRow,
    FrameRow,
    RejectionRow,
    WorkerRow,
)
from clinician_dashboard.tiles.pyramid import is_large
from clinician_dashboard.web import words

SCALE_LENGTHS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SCALE_SHARE = 0.28
STAGES = (("queue_ms", "Queue"), ("decode_ms", "Decode"), ("inference_ms", "Inference"))


@dataclass(frozen=True)
class Bar:
    """One class's probability, drawn as a bar; shares between 0 and 1."""

    name: str
    label: str
    long_name: str
    probability: float
    low: float | None
    high: float | None
    leads: bool
    in_set: bool


@dataclass(frozen=True)
class ScaleBar:
    """A scale bar: its length and its share of the image's width."""

    length_um: int
    share: float


@dataclass(frozen=True)
class FrameCard:
    """One frame, with the diagnosis that counts (the latest).

    Attributes:
        simulated: What is simulated, in words for the image; empty if nothing is.
    """

    frame: FrameRow
    diagnosis: DiagnosisRow | None
    number: int
    grid: str
    scale: ScaleBar | None
    flags: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]
    simulated: str
    state: FrameState

    @property
    def tiled(self) -> bool:
        """Whether the viewer shows it in tiles."""
        return is_large(self.frame.width, self.frame.height)

    @property
    def revision(self) -> str:
        """Changes when the card must be drawn again."""
        return f"{self.state}-{self.diagnosis.id if self.diagnosis else 0}"


@dataclass(frozen=True)
class CaseLine:
    """One case in the worklist."""

    case: CaseRow
    headline: str
    bar: Bar | None
    thumbnails: Sequence[str]
    result_after_s: float | None


@dataclass(frozen=True)
class FleetMember:
    """A device or worker as the fleet page shows it.

    Attributes:
        row: Its row.
        state: Its last state.
        presence: Whether it is there.
        missing: What of a device's frames never came, or may still; none if every number is accounted for.
    """

    row: Any
    state: Mapping[str, Any]
    presence: Presence
    missing: Missing | None = None


def class_bars(
    shares: Mapping[str, Any], *, leading: str | None, prediction_set: Sequence[str] = ()
) -> list[Bar]:
    """Return five bars in the order of `CLASSES`.

    Args:
        shares: By class, either a probability or a map with ``probability``, ``low`` and ``high``.
        leading: The class that leads.
        prediction_set: Classes that cannot be excluded.
    """
    bars = []
    for name in CLASSES:
        share = shares.get(name)
        if share is None:
            continue
        whole = share if isinstance(share, Mapping) else {"probability": share}
        bars.append(
            Bar(
                name=name,
                label=words.SHORT_NAMES[name],
                long_name=words.CLASS_NAMES[name],
                probability=float(whole["probability"]),
                low=whole.get("low"),
                high=whole.get("high"),
                leads=name == leading,
                in_set=name in prediction_set,
            )
        )
    return bars


def scale_bar(frame: FrameRow) -> ScaleBar | None:
    """Return the longest round scale bar within 28 % of the frame's width, or none without a pixel size."""
    if not frame.pixel_size_um:
        return None
    field_um = frame.width * frame.pixel_size_um
    fitting = [length for length in SCALE_LENGTHS_UM if length <= field_um * SCALE_SHARE]
    return ScaleBar(fitting[-1], fitting[-1] / field_um) if fitting else None


def frame_card(listed: ListedFrame) -> FrameCard:
    """Return a frame's card; where two models read it, the later answer counts."""
    frame = listed.row
    joined = [diagnosis for diagnosis in frame.diagnoses if diagnosis.joined]
    diagnosis = joined[-1] if joined else None
    flags = list(frame.quality.get("flags", ()))
    if diagnosis:
        flags += [flag for flag in diagnosis.quality.get("flags", ()) if flag not in flags]
    return FrameCard(
        frame=frame,
        diagnosis=diagnosis,
        number=listed.number,
        grid=" ".join(f"{value:.3g}" for row in diagnosis.activation for value in row)
        if diagnosis and not diagnosis.activation_absent
        else "",
        scale=scale_bar(frame),
        flags=tuple(words.flag(flag) for flag in flags),
        reasons=tuple(words.reason(text) for text in diagnosis.reasons) if diagnosis else (),
        simulated=words.simulated(frame, diagnosis),
        state=diagnosis.decision if diagnosis and listed.state != "refer" else listed.state,  # type: ignore[arg-type]
    )


def case_line(case: CaseRow, thumbnails: Sequence[str]) -> CaseLine:
    """Return a case's line in the worklist."""
    bars = class_bars(case.result.get("shares", {}), leading=case.leading)
    after = (case.first_result_at - case.opened_at).total_seconds() if case.first_result_at else None
    return CaseLine(
        case=case,
        headline=words.headline(case),
        bar=next((bar for bar in bars if bar.leads), None),
        thumbnails=thumbnails,
        result_after_s=after,
    )


def fleet_member(row: DeviceRow | WorkerRow, missing: Missing | None = None) -> FleetMember:
    """Return a device or worker as the fleet page shows it."""
    return FleetMember(row=row, state=row.state, presence=presence_of(row, now=now()), missing=missing)


def fleet_fields(member: FleetMember) -> dict[str, Any]:
    """Return a device or worker as plain fields, for the JSON API."""
    row = member.row
    names = {"site": row.site, "device": row.device} if isinstance(row, DeviceRow) else {"worker": row.worker}
    fields = {
        **names,
        "birth": row.birth,
        "presence": as_fields(member.presence, now=now()),
        "state": member.state,
    }
    return fields | {"missing": missing_fields(member.missing)} if isinstance(row, DeviceRow) else fields


def missing_fields(missing: Missing | None) -> dict[str, Any]:
    """Return what never came of a device as plain fields, for the JSON API."""
    if missing is None:
        return {"count": 0, "on_the_way": 0, "numbers": [], "of_former_numbering": 0, "since": None}
    return {
        "count": missing.count,
        "on_the_way": missing.on_the_way,
        "numbers": missing.spans,
        "of_former_numbering": missing.former,
        "since": missing.since,
    }


def rejection_fields(row: RejectionRow) -> dict[str, Any]:
    """Return a dead letter as plain fields, for the JSON API."""
    names = (
        "frame_id",
        "case_code",
        "site",
        "device",
        "sequence",
        "code",
        "reason",
        "attempts",
        "worker",
        "at",
    )
    return {name: getattr(row, name) for name in (*names, "payload_bytes", "payload_sha256", "announced")}


def case_fields(case: CaseRow, *, hidden: bool = False, alone: bool = False) -> dict[str, Any]:
    """Return a case as plain fields, for the JSON API.

    Args:
        case: Its row.
        hidden: Whether the model's answer is kept from who asks, until they have read the case themselves.
        alone: Whether other readers' suspicion is kept from who asks, until they have concluded.
    """
    answer = {
        "referred": case.referred,
        "urgency": case.model_urgency if alone else case.urgency,
        "raised_by_reader": case.raised_by_reader and not alone,
        "headline": words.headline(case),
        "result": {key: value for key, value in case.result.items() if key != "reader_suspects"},
    }
    return {
        "site": case.site,
        "code": case.code,
        "devices": case.devices.split(", ") if case.devices else [],
        "stat": case.stat,
        "opened_at": case.opened_at,
        "changed_at": case.changed_at,
        "first_result_at": case.first_result_at,
        "simulated": case.simulated,
        "recorded": case.recorded,
        "waiting": case.waiting,
        "status": case.status,
        "claimed_by": case.claimed_by,
        "signed_at": case.signed_at,
        **(dict.fromkeys(answer) if hidden else answer),
        "hidden": hidden,
        "preliminary": True,
        "intended_use": words.INTENDED_USE,
    }


def frame_fields(frame: FrameRow, *, hidden: bool = False, stopped: Collection[str] = ()) -> dict[str, Any]:
    """Return a frame as plain fields, for the JSON API.

    Args:
        frame: Its row.
        hidden: Whether what models said of it is left out.
        stopped: Weights of stopped model versions.
    """
    names = (
        *("frame_id", "site", "device", "priority", "sequence", "captured_at", "received_at", "recorded_at"),
        *(
            "encoding",
            "width",
            "height",
            "pixel_size_um",
            "exposure_ms",
            "focus_um",
            "stage_x_um",
            "stage_y_um",
        ),
        *("capture_ms", "quality", "simulated", "image_sha256", "image_bytes"),
    )
    return {
        **{name: getattr(frame, name) for name in names},
        "image": f"/api/v1/frames/{frame.frame_id}/image",
        "diagnoses": [
            {**diagnosis_fields(diagnosis), "stopped_model": diagnosis.weights_sha256 in stopped}
            for diagnosis in ([] if hidden else frame.diagnoses)
            if diagnosis.joined
        ],
    }


def diagnosis_fields(diagnosis: DiagnosisRow) -> dict[str, Any]:
    """Return a diagnosis as plain fields, for the JSON API."""
    names = (
        *(
            "worker",
            "diagnosed_at",
            "model",
            "probabilities",
            "prediction",
            "prediction_set",
            "decision",
            "reasons",
        ),
        *("ood_score", "ood_threshold", "activation", "timings", "simulated"),
    )
    return {name: getattr(diagnosis, name) for name in names}
