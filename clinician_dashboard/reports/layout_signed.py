"""What a signed PDF report adds to a preliminary one: the conclusion first, its signature, and the versions before it."""

from reportlab.lib.styles import ParagraphStyle  # type: ignore[import-untyped]
from reportlab.lib.units import mm  # type: ignore[import-untyped]
from reportlab.platypus import (  # type: ignore[import-untyped]
    Flowable,
    KeepTogether,
    Paragraph,
    Spacer,
    Table,
)

from clinician_dashboard.reports.case_report import CaseReport, Signature
from clinician_dashboard.reports.page import INNER, LINE, SOFT, inert, utc
from clinician_dashboard.reports.styles import ALERT, BODY, FAINT, HEADING, HEADLINE, PLAIN, SMALL
from clinician_dashboard.reports.telling import remarks

LONGEST_NAME = 120
HASH = ParagraphStyle("hash", parent=FAINT, fontSize=6.6)
SHORT_HASH = 16


def signed_conclusion(report: CaseReport) -> list[Flowable]:
    """Return the signer's conclusion with everything that belongs to it, and the signature; nothing while there is none."""
    signature = report.signature
    if signature is None:
        return []
    parts: list[Flowable] = [
        Paragraph("Conclusion", HEADING),
        Paragraph(inert(signature.words), HEADLINE),
    ]
    for text in remarks(signature):
        urgent = text.startswith(("Superseded", "Amended", "Signed in spite", "Critical"))
        # Long comments break over pages as they are: nothing of what was signed is cut.
        parts.append(Paragraph(inert(text), ALERT if urgent else BODY))
    if report.simulated:
        parts.append(Paragraph("SIMULATED: this conclusion is about no patient.", ALERT))
    return [*parts, Spacer(1, 5), KeepTogether([_block(signature)])]


def signed_history(report: CaseReport) -> list[Flowable]:
    """Return the signed versions, this one last, each with the beginning of its hash."""
    signature = report.signature
    if signature is None:
        return []
    rows = [
        [
            Paragraph(text, FAINT)
            for text in ("Version", "Conclusion", "Signed", "Content, first 16 digits of SHA-256")
        ]
    ]
    rows += [
        _row(str(one.version), one.words, f"{one.signer}, {utc(one.signed_at)}", one.sha256)
        for one in signature.earlier
    ]
    rows.append(
        _row(
            f"{signature.version} (this)",
            signature.words,
            f"{signature.name}, {utc(signature.signed_at)}",
            signature.sha256,
        )
    )
    style = [*PLAIN, ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE)]
    widths = [18 * mm, INNER * 0.3, INNER * 0.28, INNER * 0.42 - 18 * mm]
    return [Paragraph("Versions", HEADING), Table(rows, colWidths=widths, style=style, repeatRows=1)]


def _block(signature: Signature) -> Table:
    told = [
        Paragraph(f"<b>{inert(signature.name[:LONGEST_NAME])}</b>", BODY),
        Paragraph(inert(f"{signature.role.replace('_', ' ')}, login {signature.login}"), SMALL),
        Paragraph(f"Electronically signed {utc(signature.signed_at)}, by password", SMALL),
    ]
    proof = [
        Paragraph(f"Version {signature.version}, {signature.status}", BODY),
        Paragraph("SHA-256 of the signed content", FAINT),
        Paragraph(signature.sha256, HASH),
    ]
    style = [*PLAIN, ("BOX", (0, 0), (-1, -1), 0.8, SOFT), ("LEFTPADDING", (0, 0), (-1, -1), 6)]
    return Table([[told, proof]], colWidths=[INNER * 0.46, INNER * 0.54], style=style)


def _row(version: str, words: str, signed: str, sha256: str) -> list[Paragraph]:
    return [
        Paragraph(version, SMALL),
        Paragraph(inert(words[:LONGEST_NAME]), SMALL),
        Paragraph(inert(signed[:LONGEST_NAME]), SMALL),
        Paragraph(sha256[:SHORT_HASH], FAINT),
    ]
