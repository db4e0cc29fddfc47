"""The formats that a report can be had in, for the API and the command line alike."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from broker_config.messages import now
from clinician_dashboard.record.reader import RecordReader
from clinician_dashboard.reports import dicom, dicom_sr, fhir, hl7, pdf
from clinician_dashboard.reports.case_report import CaseReport
from clinician_dashboard.reports.fhir_parts import Release
from clinician_dashboard.reports.gather import gather, gather_frame, read_images
from clinician_dashboard.reports.gather_parts import software_version

_AT_ONCE = threading.BoundedSemaphore(2)
"""Reports made at the same time: each holds pictures in memory."""


@dataclass(frozen=True)
class Made:
    """A report as it is handed out.

    Attributes:
        report: What it was made from.
        content: The file.
        media_type: Its media type.
        file_name: The case code, status and version; no patient's identity.
    """

    report: CaseReport
    content: bytes
    media_type: str
    file_name: str


@dataclass(frozen=True)
class _Format:
    suffix: str
    media_type: str
    make: Callable[[CaseReport, Mapping[str, bytes]], bytes]
    pictured: bool


def _fhir(release: Release) -> Callable[[CaseReport, Mapping[str, bytes]], bytes]:
    def make(report: CaseReport, images: Mapping[str, bytes]) -> bytes:
        bundle = fhir.fhir_bundle(report, release, pdf=pdf.case_pdf(report, images))
        fhir.check_bundle(bundle, release)
        return json.dumps(bundle, ensure_ascii=False, indent=1).encode()

    return make


def _hl7(report: CaseReport, _images: Mapping[str, bytes]) -> bytes:
    message = hl7.oru_message(report)
    hl7.check_message(message)
    return message.encode()


FORMATS: Mapping[str, _Format] = {
    "fhir-r4b": _Format("fhir.json", fhir.MEDIA_TYPE["r4b"], _fhir("r4b"), pictured=True),
    "fhir-r5": _Format("fhir.json", fhir.MEDIA_TYPE["r5"], _fhir("r5"), pictured=True),
    "dicom-sr": _Format(
        "sr.dcm", dicom.MEDIA_TYPE, lambda report, _images: dicom_sr.structured_report(report), pictured=False
    ),
    "hl7": _Format("hl7", hl7.MEDIA_TYPE, _hl7, pictured=False),
    "pdf": _Format("pdf", pdf.MEDIA_TYPE, pdf.case_pdf, pictured=True),
}


LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "pdf": ("reportlab", "fontpkg_fira_sans", "PIL"),
    "fhir.json": ("reportlab", "fontpkg_fira_sans", "PIL", "fhir"),
    "hl7": ("hl7apy",),
    "sr.dcm": ("pydicom", "highdicom"),
}
"""What each format needs of the extra ``reports``, by the suffix of its address."""


@cache
def available() -> tuple[str, ...]:
    """Return the suffixes of the reports that can be made here, so that a page offers no other."""
    return tuple(
        suffix for suffix, names in LIBRARIES.items() if all(find_spec(name) is not None for name in names)
    )


def make_report(
    reader: RecordReader,
    code: str,
    name: str,
    *,
    site: str = "",
    version: int | None = None,
    alone: bool = False,
) -> Made:
    """Read a case and make one report of it. What breaks its own standard is not handed out.

    Args:
        reader: Of an open record.
        code: The case code.
        name: One of `FORMATS`.
        site: Whose case, where several sites use the code.
        version: A signed version; 0 for the preliminary state; the newest there is if none is given.
        alone: Whether it is for somebody from whom other readers' suspicion is kept.

    Raises:
        ReportError: If there is no such case, a library is missing, or the report would be invalid.
    """
    form = FORMATS[name]
    with _AT_ONCE:
        report = gather(reader, code, site=site, made_at=now(), version=version, alone=alone)
        images = read_images(reader, pdf.pictured_frames(report)) if form.pictured else {}
        content = form.make(report, images)
    return Made(
        report=report,
        content=content,
        media_type=form.media_type,
        file_name=f"{report.code}-{report.status}-v{report.version}.{form.suffix}",
    )


def make_dicom(reader: RecordReader, frame_id: str) -> bytes:
    """Return one frame as a DICOM file.

    Args:
        reader: Of an open record.
        frame_id: The frame.

    Raises:
        ReportError: If there is no such frame, its picture cannot be read, or a library is missing.
    """
    with _AT_ONCE:
        case, frame = gather_frame(reader, frame_id)
        image = read_images(reader, [frame]).get(frame_id, b"")
        return dicom.dicom_image(
            frame,
            image,
            site=case.site,
            code=case.code,
            software=software_version(),
            opened_at=case.opened_at,
        )
