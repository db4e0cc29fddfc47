"""What every format of a report tells in the same words."""

from clinician_dashboard.reports.case_report import CaseReport, Signature
from clinician_dashboard.web.words import INTENDED_USE, SIGNED_USE

SUSPICION = (
    "A reader suspects acute leukaemia, and the model does not: the case is critical. Nobody has signed yet."
)


def intended_use(report: CaseReport) -> str:
    """Return what the report is, in one line: the model's while nobody has signed, and after that the signer's."""
    return SIGNED_USE if report.signature else INTENDED_USE


def suspicion(report: CaseReport) -> str:
    """Return that a reader has raised the case above what the model says, in one sentence; empty if none has."""
    return SUSPICION if report.raised_by_reader and report.signature is None else ""


def remarks(signature: Signature) -> list[str]:
    """Return what belongs to a signature beside the conclusion, as sentences, most important first."""
    told = []
    if signature.superseded_by is not None:
        told.append(f"Superseded by version {signature.superseded_by}.")
    if signature.amend_reason:
        told.append(f"Amended: {signature.amend_reason}")
    if signature.comment:
        told.append(signature.comment)
    if signature.agrees is False:
        why = f": {signature.reason}" if signature.reason else ""
        told.append(f"The signer differs from the model{why}.")
    elif signature.agrees is None:
        told.append("The model gave no answer for this case.")
    if signature.second:
        told.append(f"Second reader: {signature.second}.")
    if signature.adjudicator:
        told.append(f"Decided between the two readers by {signature.adjudicator}.")
    if signature.call is not None:
        told.append(told_call(signature))
    told += [f"Signed in spite of: {warning}" for warning in signature.warnings]
    return told


def told_call(signature: Signature) -> str:
    """Return how a critical finding was told, as one sentence; empty if there was none to tell."""
    call = signature.call
    if call is None:
        return ""
    when = call.at.strftime("%Y-%m-%d %H:%M UTC")
    back = "read back" if call.read_back else "NOT read back"
    return f"Critical finding told to the {call.to} by {call.by} at {when}, {back}."
