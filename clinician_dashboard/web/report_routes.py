"""A case's report under ``/api/v1/cases/{code}/report.*`` (PDF, FHIR, HL7 v2), and a frame as DICOM.

Of a signed case it is the newest signed version, or an older one by ``?version=``. Whoever reads the case blind gets none of it.
"""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import StringConstraints

from clinician_dashboard.access.web import actor_of, needs, saw_case
from clinician_dashboard.reports import dicom
from clinician_dashboard.reports.errors import AmbiguousCase, MissingPart, NoSuchCase, ReportError
from clinician_dashboard.reports.formats import make_dicom, make_report
from clinician_dashboard.web.context import Context

_STATUS_OF: tuple[tuple[type[ReportError], int], ...] = (
    (NoSuchCase, 404),
    (AmbiguousCase, 409),
    (MissingPart, 501),
    (ReportError, 503),
)

Site = Annotated[str, Query(max_length=48)]
Version = Annotated[
    int | None,
    Query(ge=0, le=1_000_000, description="a signed version; 0: the preliminary state; else the newest"),
]
FrameId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


def _refusal(error: ReportError) -> HTTPException:
    status = next(number for kind, number in _STATUS_OF if isinstance(error, kind))
    hint = ": add ?site= to the address" if isinstance(error, AmbiguousCase) else ""
    return HTTPException(status, f"{error}{hint}")


def _kept_from(context: Context, request: Request, code: str, site: str) -> bool:
    """Refuse a report that its reader must not see yet; return whether other readers' suspicion is to be left out of it."""
    plain = code.isascii() and code.isprintable()
    cases = [one for one in context.reader.cases_with_code(code) if site in ("", one.site)] if plain else []
    if context.review.hidden_cases(actor_of(request), cases):
        raise HTTPException(
            403,
            "You read this case blind, and its report shows the model's answer: give your own impression first.",
        )
    return bool(context.review.alone_cases(actor_of(request), cases))


def add_reports(router: APIRouter, context: Context) -> None:
    """Add the routes of the reports to the API's router."""
    reading = [Depends(needs("cases.read"))]

    def answer(request: Request, code: str, name: str, site: str, version: int | None) -> Response:
        alone = _kept_from(context, request, code, site)
        try:
            made = make_report(context.reader, code, name, site=site, version=version, alone=alone)
        except ReportError as error:
            raise _refusal(error) from None
        saw_case(request, made.report.site, made.report.code, what="case.report")
        file_name = re.sub(r"[^A-Za-z0-9._-]", "_", made.file_name)
        return Response(
            made.content,
            headers={
                "Content-Type": made.media_type,
                "Content-Disposition": f'attachment; filename="{file_name}"',
            },
        )

    @router.get("/cases/{code}/report.pdf", dependencies=reading, response_class=Response)
    def report_pdf(request: Request, code: str, site: Site = "", version: Version = None) -> Response:
        """The case as a PDF: the newest signed version, or the preliminary state while nobody has signed."""
        return answer(request, code, "pdf", site, version)

    @router.get("/cases/{code}/report.fhir.json", dependencies=reading, response_class=Response)
    def report_fhir(
        request: Request,
        code: str,
        site: Site = "",
        release: Literal["r4b", "r5"] = "r4b",
        version: Version = None,
    ) -> Response:
        """The case as a FHIR bundle, R4B or R5, with the PDF in it."""
        return answer(request, code, f"fhir-{release}", site, version)

    @router.get("/cases/{code}/report.hl7", dependencies=reading, response_class=Response)
    def report_hl7(request: Request, code: str, site: Site = "", version: Version = None) -> Response:
        """The case as an HL7 v2.5.1 ORU^R01."""
        return answer(request, code, "hl7", site, version)

    @router.get("/cases/{code}/report.sr.dcm", dependencies=reading, response_class=Response)
    def report_sr(request: Request, code: str, site: Site = "", version: Version = None) -> Response:
        """The case as a DICOM Comprehensive SR (TID 1500), which names the frames' DICOM images."""
        return answer(request, code, "dicom-sr", site, version)

    @router.get("/frames/{frame_id}/image.dcm", dependencies=reading, response_class=Response)
    def frame_dicom(request: Request, frame_id: FrameId) -> Response:
        """One frame as a DICOM VL Microscopic Image."""
        try:
            content = make_dicom(context.reader, frame_id)
        except ReportError as error:
            raise _refusal(error) from None
        frame = context.reader.frame(frame_id)
        if frame is not None:
            saw_case(request, frame.case.site, frame.case.code, what="case.export")
        return Response(
            content,
            headers={
                "Content-Type": dicom.MEDIA_TYPE,
                "Content-Disposition": f'attachment; filename="{frame_id}.dcm"',
            },
        )
