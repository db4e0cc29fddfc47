"""The state of a case's report, and what may change it: a table.

Sources
    HL7 FHIR R4B, DiagnosticReport.status (value set diagnostic-report-status): *preliminary* is a verified early result;
    *final* "the report is complete and verified by an authorized person"; *amended* "subsequent to being final, the report
    has been modified". HL7 v2.5.1, table 0123: P, F, C. ISO 15189:2022, 7.4.1.2 (results are reviewed and released by
    authorised personnel) and 7.4.1.8 (an amended result is told as such, the former one stays available).
"""

from typing import Final, Literal

from clinician_dashboard.review.errors import OutOfOrder

Status = Literal["preliminary", "final", "amended"]
Act = Literal["sign", "amend"]

TABLE: Final[dict[tuple[Status, Act], Status]] = {
    ("preliminary", "sign"): "final",  # ISO 15189:2022, 7.4.1.2
    ("final", "amend"): "amended",  # ISO 15189:2022, 7.4.1.8; FHIR: amended, never final again
    ("amended", "amend"): "amended",  # once more, as the next version
}
"""What is not here is not possible: nothing that is signed becomes preliminary again, or final a second time."""

_WHY_NOT: Final[dict[tuple[Status, Act], str]] = {
    ("preliminary", "amend"): "nothing is signed yet: sign it",
    ("final", "sign"): "it is signed: it can be amended, as a new version with the reason",
    ("amended", "sign"): "it is signed: it can be amended once more, as a new version with the reason",
}


def after(status: Status, act: Act) -> Status:
    """Return the status after ``act``.

    Raises:
        OutOfOrder: If the act has no place in that status.
    """
    try:
        return TABLE[status, act]
    except KeyError:
        raise OutOfOrder(f"this case's report is {status}: {_WHY_NOT[status, act]}") from None
