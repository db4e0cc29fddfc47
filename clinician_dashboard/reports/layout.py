"""The page of the PDF report, on A4. Only `clinician_dashboard.reports.pdf` imports this, and only when it is asked for one.

Page one: what it is (preliminary, decision support, SIMULATED), the case, the result with its intervals, the reasons to refer, the
models. Page two: the frames with their pictures and where the model looked, and the place for a signature. A letter
that the typeface lacks becomes a question mark.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from reportlab.lib.colors import HexColor  # type: ignore[import-untyped]
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.units import mm  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]
from reportlab.platypus import (  # type: ignore[import-untyped]
    Flowable,
    KeepTogether,
    PageBreak,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
)

from broker_config.messages import CLASSES
from clinician_dashboard.reports.case_report import CaseReport, ReportFrame
from clinician_dashboard.reports.drawings import PICTURE_WIDTH, Bar, Picture
from clinician_dashboard.reports.layout_signed import signed_conclusion, signed_history
from clinician_dashboard.reports.page import (
    BOTTOM,
    INNER,
    LINE,
    MARGIN,
    PADDING,
    SOFT,
    TOP,
    NumberedCanvas,
    draw_page,
    inert,
    shorten,
    utc,
)
from clinician_dashboard.reports.pictures import thumbnails
from clinician_dashboard.reports.styles import ALERT, BODY, FAINT, HEADING, HEADLINE, PLAIN, SMALL, STRONG
from clinician_dashboard.reports.telling import intended_use, suspicion
from clinician_dashboard.web.words import (
    ACUTE_NOTE,
    CLASS_NAMES,
    SHORT_NAMES,
    STATE_WORDS,
    URGENCY_WORDS,
)

FIT_ON_PAGE_ONE = 3
REASONS = 5
MODELS = 3
PICTURE_PIXELS = 340
COLOURS = {"healthy": "#009e73", "ALL": "#d55e00", "AML": "#b8458f", "CLL": "#0072b2", "CML": "#c98a00"}
"""As on the screen, light theme (`web/static/base.css`)."""


def draw(report: CaseReport, frames: Sequence[ReportFrame], images: Mapping[str, bytes]) -> bytes:
    """Return the PDF.

    Args:
        report: The case.
        frames: The frames to show.
        images: Their images by frame id.
    """
    held = io.BytesIO()
    document = SimpleDocTemplate(
        held,
        pagesize=A4,
        leftMargin=MARGIN - PADDING,
        rightMargin=MARGIN - PADDING,
        topMargin=TOP,
        bottomMargin=BOTTOM,
        invariant=1,
        lang="en",
        title=f"{report.code}: {report.status} blood smear report",
        author=f"Hemolink {report.software}",
        subject=intended_use(report),
    )

    def frame_page(canvas: Canvas, _document: Any) -> None:
        draw_page(canvas, report)

    signed = report.signature is not None
    story = [
        *_case(report),
        *(signed_conclusion(report) if signed else []),
        *_result(report),
        *_reasons(report),
        *_models(report),
        *(_frames(report, frames, images) if frames else []),
        *(signed_history(report) if signed else _room_for_signature(report)),
    ]
    document.build(story, onFirstPage=frame_page, onLaterPages=frame_page, canvasmaker=NumberedCanvas)
    return held.getvalue()


def _case(report: CaseReport) -> list[Flowable]:
    pairs = [
        ("Case", report.code),
        ("Site", report.site),
        ("Microscope", ", ".join(report.microscopes) or "not known"),
        ("Priority", "STAT" if report.stat else "routine"),
        ("First capture", utc(report.opened_at)),
        ("Last change", utc(report.changed_at)),
        ("Frames", _frame_counts(report)),
        ("Status", report.status if report.signature else "preliminary: nobody has signed"),
    ]
    cells = [[_pair(*pairs[place]), _pair(*pairs[place + 1])] for place in range(0, len(pairs), 2)]
    return [Table(cells, colWidths=[INNER / 2] * 2, style=PLAIN)]


def _frame_counts(report: CaseReport) -> str:
    counted = [f"{count} {STATE_WORDS[state].lower()}" for state, count in report.by_state.items() if count]
    return f"{report.frame_count}" + (f" ({', '.join(counted)})" if counted else "")


def _result(report: CaseReport) -> list[Flowable]:
    result = report.result
    urgency = URGENCY_WORDS[result.urgency]
    parts: list[Flowable] = [
        Paragraph(
            "Supporting evidence: answer of the model" if report.signature else "Result of the model", HEADING
        ),
        Paragraph(inert(report.headline), STRONG if report.signature else HEADLINE),
        Paragraph(inert(f"{urgency.label}: {urgency.meaning}."), BODY),
    ]
    if suspicion(report):
        parts += [Spacer(1, 3), Paragraph(inert(suspicion(report)), ALERT)]
    if report.critical:
        parts += [Spacer(1, 3), Paragraph(inert(ACUTE_NOTE), ALERT)]
    if not result.shares:
        return parts
    rows: list[list[Any]] = [
        [Paragraph("Class", FAINT), "", Paragraph("Probability", FAINT), Paragraph("95 % interval", FAINT)]
    ]
    for name in CLASSES:
        share = result.shares[name]
        leads = name == result.leading
        label = f"<b>{inert(CLASS_NAMES[name])}</b>" if leads else inert(CLASS_NAMES[name])
        number = f"{share.probability * 100:.1f} %"
        rows.append(
            [
                Paragraph(label, BODY),
                Bar(share, HexColor(COLOURS[name])),
                Paragraph(f"<b>{number}</b>" if leads else number, BODY),
                Paragraph(f"{share.low * 100:.1f} to {share.high * 100:.1f} %", BODY),
            ]
        )
    style = [*PLAIN, ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE), ("VALIGN", (0, 1), (-1, -1), "MIDDLE")]
    widths = [58 * mm, INNER - 118 * mm, 24 * mm, 36 * mm]
    how = (
        f"{result.counted} of {report.read} read frames count, weighted by image quality, together as much as "
        f"{result.effective:.1f} equal frames; {result.referred} referred and left out. Weighted mean of the calibrated "
        "probabilities; Wilson's 95 % interval. Frames of one smear share slide and stain: read it as the least uncertainty."
    )
    return [
        *parts,
        Spacer(1, 5),
        Table(rows, colWidths=widths, style=style),
        Spacer(1, 3),
        Paragraph(how, FAINT),
    ]


def _reasons(report: CaseReport) -> list[Flowable]:
    told = [inert(reason) for reason in report.result.reasons]
    of_frames = [
        f"{inert(shorten(one.sentence))} ({one.frames} {'frame' if one.frames == 1 else 'frames'})"
        for one in report.referrals[:REASONS]
    ]
    parts: list[Flowable] = [Paragraph("Reasons to refer", HEADING)]
    if not told and not of_frames:
        return [*parts, Paragraph("None: no frame of this case was referred.", BODY)]
    parts += [Paragraph(f"<b>{text}</b>", BODY) for text in told]
    parts += [Paragraph(text, BODY, bulletText="\u2022") for text in of_frames]
    more = len(report.referrals) - REASONS
    if more > 0:
        parts.append(Paragraph(f"and {more} more reasons, in the dashboard.", FAINT))
    seen = report.referrals_seen
    if seen < report.by_state.get("refer", 0):
        parts.append(Paragraph(f"Counted over the first {seen} referred frames.", FAINT))
    return parts


def _models(report: CaseReport) -> list[Flowable]:
    parts: list[Flowable] = [Paragraph("Model" if len(report.models) == 1 else "Models", HEADING)]
    for model in report.models[:MODELS]:
        simulated = (
            ' <font color="#8a1c1c"><b>SIMULATED: it learnt from simulated smears.</b></font>'
            if model.simulated
            else ""
        )
        network = (
            ", ".join(part for part in (model.architecture, model.engine) if part) or "network not stated"
        )
        parts += [
            Paragraph(
                f"<b>{inert(shorten(model.name, 80))} {inert(shorten(model.version, 40))}</b> ({inert(shorten(network, 80))}){simulated}",
                BODY,
            ),
            Paragraph(f"Trained on: {inert(shorten(model.training_data)) or 'not stated'}", SMALL),
            Paragraph(f"Weights SHA-256: {model.weights_sha256}", FAINT),
            Spacer(1, 3),
        ]
    if not report.models:
        parts.append(Paragraph("No model has answered yet.", BODY))
    if len(report.models) > 1:
        parts.append(Paragraph(f"Frames of this case were read by {len(report.models)} models.", ALERT))
    return parts


def _frames(report: CaseReport, frames: Sequence[ReportFrame], images: Mapping[str, bytes]) -> list[Flowable]:
    where = "Right picture: where the model looked (yellow most, violet least)."
    if len(frames) < report.frame_count:
        heading = f"Frames, {len(frames)} of {report.frame_count}"
        how = "Shown are referred frames, and reported ones from the strongest for the result to the strongest against it."
    else:
        heading = "Frames, all of them" if len(frames) > 1 else "The frame"
        how = ""
    rows = [_frame_row(frame, images.get(frame.frame_id)) for frame in frames]
    style = [
        *PLAIN,
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ]
    picture = PICTURE_WIDTH + 2 * mm
    widths = [8 * mm, picture, picture, INNER - 8 * mm - 2 * picture]
    return [
        *([PageBreak()] if len(frames) > FIT_ON_PAGE_ONE else []),
        Paragraph(heading, HEADING),
        Paragraph(f"{how} {where}".strip(), FAINT),
        Spacer(1, 3),
        Table(rows, colWidths=widths, style=style),
    ]


def _frame_row(frame: ReportFrame, image: bytes | None) -> list[Any]:
    small = thumbnails(image, frame.activation, width=PICTURE_PIXELS) if image else None
    if small is None:
        left: Any = Paragraph("The picture is not in the record's folder, or cannot be read.", FAINT)
        right: Any = ""
    else:
        left = Picture(small.plain, frame, small.height / small.width)
        right = Picture(small.overlaid, frame, small.height / small.width) if small.overlaid else ""
    return [Paragraph(f"<b>{frame.number}</b>", BODY), left, right, _frame_words(frame)]


def _frame_words(frame: ReportFrame) -> list[Flowable]:
    if frame.prediction is None:
        answer = f"<b>{STATE_WORDS[frame.state]}</b>"
    else:
        probability = f"{SHORT_NAMES[frame.prediction]} {frame.probabilities[frame.prediction] * 100:.0f} %"
        if frame.state == "refer":
            answer = f'<font color="#8a1c1c"><b>REFERRED</b></font>, leans {probability}'
        else:
            swatch = f'<font name="ZapfDingbats" color="{COLOURS[frame.prediction]}">n</font>'
            answer = f"{swatch} <b>{probability}</b>"
    rest = ", ".join(
        f"{SHORT_NAMES[name]} {frame.probabilities[name] * 100:.0f} %"
        for name in CLASSES
        if name != frame.prediction and name in frame.probabilities
    )
    lines = [Paragraph(f"{answer} &nbsp; <font color='#56616e' size='7.6'>{rest}</font>", BODY)]
    lines += [Paragraph(inert(shorten(reason, 170)), SMALL) for reason in frame.reasons[:2]]
    if len(frame.reasons) > 2:  # noqa: PLR2004
        lines.append(Paragraph(f"and {len(frame.reasons) - 2} more reasons", FAINT))
    if frame.flags:
        lines.append(Paragraph(inert(shorten(f"Noticed: {', '.join(frame.flags)}", 120)), SMALL))
    where = f"{frame.device}, {utc(frame.captured_at)}, {frame.width} x {frame.height} pixels"
    lines.append(Paragraph(inert(where), FAINT))
    lines.append(Paragraph(f"Frame {frame.frame_id}", FAINT))
    return lines


def _room_for_signature(report: CaseReport) -> list[Flowable]:
    blank = [
        [
            Paragraph(text, FAINT)
            for text in ("Haematologist's reading", "Name", "Date and time", "Signature")
        ],
        ["", "", "", ""],
    ]
    style = [
        *PLAIN,
        ("BOX", (0, 0), (-1, -1), 0.6, SOFT),
        ("INNERGRID", (0, 0), (-1, -1), 0.3, LINE),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
    ]
    told = "This report is the work of a model. It is no diagnosis until a haematologist has read the smear."
    if report.simulated:
        told = f"SIMULATED: not to be signed for any patient. {told}"
    table = Table(
        blank,
        colWidths=[INNER * 0.4, INNER * 0.2, INNER * 0.18, INNER * 0.22],
        rowHeights=[14, 26],
        style=style,
    )
    return [Spacer(1, 7), KeepTogether([Paragraph(told, SMALL), Spacer(1, 4), table])]


def _pair(name: str, value: str) -> Paragraph:
    return Paragraph(f'<font color="#56616e">{name}:</font> {inert(value)}', BODY)
