"""Rows of the record as parts of a report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from clinician_dashboard.record.frame_list import ListedFrame
from clinician_dashboard.record.tables import DiagnosisRow
from clinician_dashboard.reports.case_report import Referral, ReportFrame, ReportModel
from clinician_dashboard.web import words


def software_version() -> str:
    """Return this program's version."""
    try:
        return metadata.version("hemolink")
    except metadata.PackageNotFoundError:
        return "unknown"


def frame_of(listed: ListedFrame) -> ReportFrame:
    """Return a frame with the answer that counts for it."""
    return frame_from(listed, counting(listed.row.diagnoses))


def frame_from(listed: ListedFrame, diagnosis: DiagnosisRow | None) -> ReportFrame:
    """Return a frame with a certain answer."""
    row = listed.row
    flags = list(row.quality.get("flags", ()))
    if diagnosis:
        flags += [flag for flag in diagnosis.quality.get("flags", ()) if flag not in flags]
    return ReportFrame(
        number=listed.number,
        frame_id=row.frame_id,
        device=row.device,
        captured_at=row.captured_at,
        state=listed.state,
        prediction=diagnosis.prediction if diagnosis else None,  # type: ignore[arg-type]
        probabilities=dict(diagnosis.probabilities) if diagnosis else {},  # type: ignore[arg-type]
        reasons=tuple(words.reason(text)[1] for text in diagnosis.reasons) if diagnosis else (),
        flags=tuple(words.flag(flag) for flag in flags),
        simulated=words.simulated(row, diagnosis),
        encoding=row.encoding,
        width=row.width,
        height=row.height,
        pixel_size_um=row.pixel_size_um,
        image_sha256=row.image_sha256,
        worker=diagnosis.worker if diagnosis else "",
        weights_sha256=diagnosis.weights_sha256 if diagnosis else "",
        activation=tuple(tuple(line) for line in diagnosis.activation) if diagnosis else (),
    )


def counting(diagnoses: Sequence[DiagnosisRow]) -> DiagnosisRow | None:
    """Return the latest answer whose image is in the record, or none."""
    joined = [diagnosis for diagnosis in diagnoses if diagnosis.joined]
    return joined[-1] if joined else None


def referrals_of(answers: Sequence[Sequence[DiagnosisRow]]) -> tuple[Referral, ...]:
    """Count the reasons of referred frames. Sentences of one code may carry figures: the first stands for all."""
    counts: Counter[str] = Counter()
    firsts: dict[str, tuple[str, str]] = {}
    for diagnoses in answers:
        diagnosis = counting(diagnoses)
        if diagnosis is None:
            continue
        for key, told in {
            (words.reason(text)[0] or text): words.reason(text) for text in diagnosis.reasons
        }.items():
            counts[key] += 1
            firsts.setdefault(key, told)
    return tuple(Referral(*firsts[key], frames=number) for key, number in counts.most_common())


def model_of(fields: Mapping[str, Any], weights_sha256: str) -> ReportModel:
    """Return a model as its diagnoses name it."""
    return ReportModel(
        name=fields["name"],
        version=fields["version"],
        weights_sha256=weights_sha256,
        architecture=fields.get("architecture", ""),
        engine=fields.get("engine", ""),
        training_data=fields.get("training_data", ""),
        simulated=bool(fields.get("simulated")),
    )
