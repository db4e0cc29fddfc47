"""A case's report under ``/api/v1/cases/{code}/report.*`` (PDF, FHIR, HL7 v2), and a frame as DICOM."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import StringConstraints

from clinician_dashboard.access.web import needs, saw_case
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
FrameId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


def _refusal(error: ReportError) -> HTTPException:
    status = next(number for kind, number in _STATUS_OF if isinstance(error, kind))
    hint = ": add ?site= to the address" if isinstance(error, AmbiguousCase) else ""
    return HTTPException(status, f"{error}{hint}")


def add_reports(router: APIRouter, context: Context) -> None:
    """Add the routes of the reports to the API's router."""
    reading = [Depends(needs("cases.read"))]

    def answer(request: Request, code: str, name: str, site: str) -> Response:
        try:
            made = make_report(context.reader, code, name, site=site)
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
    def report_pdf(request: Request, code: str, site: Site = "") -> Response:
        """The case as a PDF of one or two pages. Preliminary: nothing is signed."""
        return answer(request, code, "pdf", site)

    @router.get("/cases/{code}/report.fhir.json", dependencies=reading, response_class=Response)
    def report_fhir(
        request: Request, code: str, site: Site = "", release: Literal["r4b", "r5"] = "r4b"
    ) -> Response:
        """The case as a FHIR bundle, R4B or R5, with the PDF in it. Preliminary."""
        return answer(request, code, f"fhir-{release}", site)

    @router.get("/cases/{code}/report.hl7", dependencies=reading, response_class=Response)
    def report_hl7(request: Request, code: str, site: Site = "") -> Response:
        """The case as an HL7 v2.5.1 ORU^R01. Preliminary."""
        return answer(request, code, "hl7", site)

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
