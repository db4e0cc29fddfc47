"""What the templates are given: rows of the record turned into what a clinician reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broker_config.messages import CLASSES
from clinician_dashboard.record.frame_list import FrameState, ListedFrame
from clinician_dashboard.record.tables import CaseRow, DeviceRow, DiagnosisRow, FrameRow, WorkerRow
from clinician_dashboard.web import words

SCALE_LENGTHS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SCALE_SHARE = 0.28
SILENT_AFTER_S = 90.0
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
    def revision(self) -> str:
        """Changes when the card must be drawn again."""
        return f"{self.state}-{self.diagnosis.id if self.diagnosis else 0}"


@dataclass(frozen=True)
class CaseLine:
    """One case in the worklist."""

    case: CaseRow
    headline: str
    bar: Bar | None
    thumbnails: Sequence[FrameRow]
    result_after_s: float | None


@dataclass(frozen=True)
class Presence:
    """A device or worker with the time since it was last heard of."""

    row: Any
    state: Mapping[str, Any]
    status: str
    silent: bool


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
        grid=" ".join(f"{value:.3g}" for row in diagnosis.activation for value in row) if diagnosis else "",
        scale=scale_bar(frame),
        flags=tuple(words.flag(flag) for flag in flags),
        reasons=tuple(words.reason(text) for text in diagnosis.reasons) if diagnosis else (),
        simulated=words.simulated(frame, diagnosis),
        state=diagnosis.decision if diagnosis else listed.state,  # type: ignore[arg-type]
    )


def case_line(case: CaseRow, thumbnails: Sequence[FrameRow]) -> CaseLine:
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


def presence(row: DeviceRow | WorkerRow) -> Presence:
    """Return a device's or worker's presence; one that was long silent is said to be so."""
    silent = row.presence == "online" and (datetime.now(UTC) - row.heard_at).total_seconds() > SILENT_AFTER_S
    return Presence(row=row, state=row.state, status="silent" if silent else row.presence, silent=silent)


def case_fields(case: CaseRow) -> dict[str, Any]:
    """Return a case as plain fields, for the JSON API."""
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
        "referred": case.referred,
        "urgency": case.urgency,
        "headline": words.headline(case),
        "result": case.result,
        "preliminary": True,
        "intended_use": words.INTENDED_USE,
    }


def frame_fields(frame: FrameRow) -> dict[str, Any]:
    """Return a frame as plain fields, for the JSON API."""
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
        "diagnoses": [diagnosis_fields(diagnosis) for diagnosis in frame.diagnoses if diagnosis.joined],
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
