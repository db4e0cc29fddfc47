"""Reading a `CaseReport` from the record."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from typing import Any, cast

from clinician_dashboard.case_result import Totals
from clinician_dashboard.record.frame_list import FrameList, FrameState, ListedFrame
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.record.tables import CaseRow, DiagnosisRow
from clinician_dashboard.reports.case_report import (
    CaseReport,
    Referral,
    ReportFrame,
    ReportModel,
    choose_frames,
)
from clinician_dashboard.reports.errors import AmbiguousCase, NoSuchCase, ReportError
from clinician_dashboard.web import words

LISTED = 60
"""Most frames that a report lists; a case may have thousands, and a report is read by people."""

LOOKED_AT = 200
"""Of the case's frames, and again of its referred frames, the first so many are looked at to choose from."""

ATTEMPTS = 5


def gather(reader: RecordReader, code: str, *, site: str = "", made_at: datetime) -> CaseReport:
    """Return what the record knows of a case, all of one moment.

    Args:
        reader: Of an open record.
        code: The case code.
        site: Whose; needed only where several sites use the same code.
        made_at: The report's own time.

    Raises:
        NoSuchCase: If the record has none of that code.
        AmbiguousCase: If several sites have one and ``site`` chooses none.
        ReportError: If the case changed each time that it was read.
    """
    for _attempt in range(ATTEMPTS):
        case = _find(reader, code, site=site)
        listed = reader.frames_of(case.id, page_size=LOOKED_AT)
        referred = reader.frames_of(case.id, state="refer", page_size=LOOKED_AT)
        if _find(reader, code, site=site).revision == case.revision:
            return _report(case, listed, referred, made_at=made_at)
    raise ReportError(f"case {code} changes as fast as it is read: try again when its frames have come")


def read_images(reader: RecordReader, frames: Sequence[ReportFrame]) -> dict[str, bytes]:
    """Return the images of ``frames`` by frame id; one that is not in the image store is left out."""
    images = {}
    for frame in frames:
        row = reader.frame(frame.frame_id)
        if row is None:
            continue
        try:
            images[frame.frame_id] = reader.image_path(row).read_bytes()
        except OSError:
            continue  # the report says that there is no picture; `verify` says why
    return images


def gather_frame(reader: RecordReader, frame_id: str) -> tuple[str, str, ReportFrame]:
    """Return a frame's site, its case code, and the frame; its number is 0, since the rest of the case is not read.

    Raises:
        NoSuchCase: If the record has no such frame.
    """
    row = reader.frame(frame_id)
    if row is None:
        raise NoSuchCase("no such frame")
    answered = _counting(row.diagnoses)
    state = cast("FrameState", answered.decision) if answered else "waiting"
    return row.case.site, row.case.code, _frame(ListedFrame(0, state, row))


def software_version() -> str:
    """Return this program's version."""
    try:
        return metadata.version("hemolink")
    except metadata.PackageNotFoundError:
        return "unknown"


def _find(reader: RecordReader, code: str, *, site: str) -> CaseRow:
    found = (
        [case for case in reader.cases_with_code(code) if site in ("", case.site)] if _is_code(code) else []
    )
    if not found:
        raise NoSuchCase("no such case: check the code, and the site where one was given")
    if len(found) > 1:
        raise AmbiguousCase(
            "several sites have a case of that code: choose one of " + ", ".join(case.site for case in found)
        )
    return found[0]


def _is_code(text: str) -> bool:
    # What no message can carry is no case, and some databases refuse it.
    return text.isascii() and text.isprintable()


def _report(case: CaseRow, listed: FrameList, referred: FrameList, *, made_at: datetime) -> CaseReport:
    result = Totals.from_fields(case.totals or {}).result()
    refusals = [_frame(one) for one in referred.frames]
    known = {frame.frame_id: frame for frame in (*map(_frame, listed.frames), *refusals)}
    frames = choose_frames(list(known.values()), LISTED, leading=result.leading)
    return CaseReport(
        site=case.site,
        code=case.code,
        version=case.revision,
        made_at=made_at,
        opened_at=case.opened_at,
        changed_at=case.changed_at,
        result_at=case.first_result_at,
        stat=case.stat,
        simulated=case.simulated,
        headline=words.headline(case),
        result=result,
        microscopes=tuple(case.devices.split(", ")) if case.devices else (),
        workers=tuple(sorted({frame.worker for frame in frames if frame.worker})),
        by_state=listed.by_state,
        frames=frames,
        referrals=_referrals([one.row.diagnoses for one in referred.frames]),
        referrals_seen=len(refusals),
        models=tuple(_model(diagnosis.model, diagnosis.weights_sha256) for diagnosis in listed.models),
        software=software_version(),
    )


def _frame(listed: ListedFrame) -> ReportFrame:
    row = listed.row
    diagnosis = _counting(row.diagnoses)
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


def _counting(diagnoses: Sequence[DiagnosisRow]) -> DiagnosisRow | None:
    joined = [diagnosis for diagnosis in diagnoses if diagnosis.joined]
    return joined[-1] if joined else None


def _referrals(answers: Sequence[Sequence[DiagnosisRow]]) -> tuple[Referral, ...]:
    """Count the reasons of referred frames. Sentences of one code may carry figures: the first stands for all."""
    counts: Counter[str] = Counter()
    firsts: dict[str, tuple[str, str]] = {}
    for diagnoses in answers:
        diagnosis = _counting(diagnoses)
        if diagnosis is None:
            continue
        for key, told in {
            (words.reason(text)[0] or text): words.reason(text) for text in diagnosis.reasons
        }.items():
            counts[key] += 1
            firsts.setdefault(key, told)
    return tuple(Referral(*firsts[key], frames=number) for key, number in counts.most_common())


def _model(fields: Mapping[str, Any], weights_sha256: str) -> ReportModel:
    return ReportModel(
        name=fields["name"],
        version=fields["version"],
        weights_sha256=weights_sha256,
        architecture=fields.get("architecture", ""),
        engine=fields.get("engine", ""),
        training_data=fields.get("training_data", ""),
        simulated=bool(fields.get("simulated")),
    )
