"""Reading a `CaseReport` from the record."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from clinician_dashboard.case_result import Totals
from clinician_dashboard.record.frame_list import FrameList, FrameState, ListedFrame
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.record.tables import CaseRow
from clinician_dashboard.reports.case_report import (
    CaseReport,
    ReportFrame,
    choose_frames,
)
from clinician_dashboard.reports.errors import AmbiguousCase, NoSuchCase, ReportError
from clinician_dashboard.reports.gather_parts import (
    counting,
    frame_of,
    model_of,
    referrals_of,
    software_version,
)
from clinician_dashboard.reports.gather_signed import gather_signed
from clinician_dashboard.web import words

LISTED = 60
"""Most frames that a report lists; a case may have thousands, and a report is read by people."""

LOOKED_AT = 200
"""Of the case's frames, and again of its referred frames, the first so many are looked at to choose from."""

ATTEMPTS = 5
PRELIMINARY = 0
"""Stands for the state that nobody has signed, where a version is asked for."""


def gather(
    reader: RecordReader,
    code: str,
    *,
    site: str = "",
    made_at: datetime,
    version: int | None = None,
    alone: bool = False,
) -> CaseReport:
    """Return what the record knows of a case, all of one moment; of a signed case, what was signed.

    Args:
        reader: Of an open record.
        code: The case code.
        site: Whose; needed only where several sites use the same code.
        made_at: The report's own time.
        version: A signed version; 0 for the preliminary state; the newest signed one, or else the preliminary, if none is given.
        alone: Whether it is for somebody from whom other readers' suspicion is kept (`clinician_dashboard.review.blind`).

    Raises:
        NoSuchCase: If the record has none of that code, or the case no such version.
        AmbiguousCase: If several sites have one and ``site`` chooses none.
        ReportError: If the case changed each time that it was read.
    """
    if version != PRELIMINARY:
        case = _find(reader, code, site=site)
        signed = gather_signed(reader, case, version=version, made_at=made_at)
        if signed is not None:
            return signed
    for _attempt in range(ATTEMPTS):
        case = _find(reader, code, site=site)
        listed = reader.frames_of(case.id, page_size=LOOKED_AT)
        referred = reader.frames_of(case.id, state="refer", page_size=LOOKED_AT)
        if _find(reader, code, site=site).revision == case.revision:
            return _report(case, listed, referred, made_at=made_at, alone=alone)
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


def gather_frame(reader: RecordReader, frame_id: str) -> tuple[CaseRow, ReportFrame]:
    """Return a frame's case, and the frame; its number is 0, since the rest of the case is not read.

    Raises:
        NoSuchCase: If the record has no such frame.
    """
    row = reader.frame(frame_id)
    if row is None:
        raise NoSuchCase("no such frame")
    answered = counting(row.diagnoses)
    state = cast("FrameState", answered.decision) if answered else "waiting"
    return row.case, frame_of(ListedFrame(0, state, row))


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


def _report(
    case: CaseRow, listed: FrameList, referred: FrameList, *, made_at: datetime, alone: bool
) -> CaseReport:
    result = Totals.from_fields(case.totals or {}).result()
    refusals = [frame_of(one) for one in referred.frames]
    known = {frame.frame_id: frame for frame in (*map(frame_of, listed.frames), *refusals)}
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
        referrals=referrals_of([one.row.diagnoses for one in referred.frames]),
        referrals_seen=len(refusals),
        models=tuple(model_of(diagnosis.model, diagnosis.weights_sha256) for diagnosis in listed.models),
        software=software_version(),
        raised_by_reader=case.raised_by_reader and case.signed_at is None and not alone,
    )
