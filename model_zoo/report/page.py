"""A report as one self-contained page."""

from collections.abc import Sequence
from html import escape
from typing import Any, Final

import numpy as np

from model_zoo.report import plot
from model_zoo.report.explanation_section import explanation_section
from model_zoo.report.finer import finer_section
from model_zoo.report.guard_section import (
    acute_section,
    expectation_section,
    outside_section,
    thresholds_section,
)
from model_zoo.report.html import document as whole
from model_zoo.report.html import picture, table
from model_zoo.report.performance_section import (
    calibration_section,
    classes_section,
    curves_section,
    outcome_section,
    refer_section,
)
from model_zoo.report.run import Report, Shown
from model_zoo.report.wording import percent, with_interval

ITEMS: Final = "docs/reporting-items.md"
_STYLE: Final = """
.wide{overflow-x:auto}.plots{display:flex;flex-wrap:wrap;gap:1.2rem}.plots figure{margin:0;flex:none;max-width:100%}.plots>div{flex:1;min-width:18rem}td.n{white-space:nowrap}
.gallery{display:flex;flex-wrap:wrap;gap:1rem}.gallery figure{margin:0;max-width:27rem;font-size:.85rem;line-height:1.35}
.gallery img{width:auto;height:auto;max-width:100%}.verdict{font-size:1.05rem;border-left:4px solid #9c1c1c;padding-left:.8rem}
td,th{font-size:.92rem}nav a{margin-right:.9rem}
"""
_SECTIONS: Final = (
    ("outcome", "What becomes of a frame"),
    ("classes", "By class"),
    ("curves", "ROC and precision-recall"),
    ("finer", "Subtypes"),
    ("calibration", "Are the probabilities right?"),
    ("refer", "Referring"),
    ("acute", "Acute leukaemia that is missed"),
    ("promised", "What the package expects of itself"),
    ("places", "By source and site"),
    ("distance", "How far from the training smears"),
    ("thresholds", "The limits that it obeys"),
    ("rivals", "Against simpler answers"),
    ("gallery", "Frames to look at"),
    ("explain", "Can the activation maps be believed?"),
    ("training", "What the package has seen"),
    ("limits", "What this cannot show"),
    ("files", "Tables and reporting items"),
)


def render(report: Report, *, files: Sequence[str]) -> str:
    """The page as HTML, with nothing to load from elsewhere.

    Args:
        report: Of an evaluation.
        files: Names of the tables beside the page.
    """
    found = report.document
    bodies = {
        "outcome": outcome_section(found),
        "classes": classes_section(found),
        "curves": curves_section(found),
        "finer": finer_section(found["finer"]),
        "calibration": calibration_section(found),
        "refer": refer_section(found),
        "acute": acute_section(found),
        "promised": expectation_section(found),
        "places": _places(found),
        "distance": _distance(found) + outside_section(found),
        "thresholds": thresholds_section(found),
        "rivals": _rivals(found),
        "gallery": _gallery(report.gallery),
        "explain": explanation_section(found["explanations"]),
        "training": _training(found),
        "limits": "<ul>" + "".join(f"<li>{escape(said)}</li>" for said in found["limits"]) + "</ul>",
        "files": _files(files),
    }
    sections = "\n".join(f'<h2 id="{key}">{title}</h2>{bodies[key]}' for key, title in _SECTIONS)
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title in _SECTIONS)
    name = found["model"]["name"]
    return whole(f"Evaluation of {name}", f"{_head(found)}<nav>{links}</nav>\n{sections}", style=_STYLE)


def _head(found: dict[str, Any]) -> str:
    model, sources = found["model"], found["sources"]
    marks = ""
    if found["simulated"]:
        marks += '<p class="simulated">SIMULATED smears: says nothing of real ones.</p>'
    elif found["partly_simulated"]:
        marks += '<p class="simulated">Partly SIMULATED smears: look at the figures by source.</p>'
    if model["simulated"] and not found["simulated"]:
        marks += '<p class="simulated">The package was trained on SIMULATED smears only.</p>'
    loud = sources["class_equals_source"] or bool(sources["single_class_sources"])
    said = f'<p class="{"verdict bad" if loud and len(sources["counts"]) > 1 else "note"}">{escape(sources["statement"])}</p>'
    return (
        f"<h1>Evaluation of {escape(model['name'])} {escape(model['version'])}</h1>{marks}"
        f'<p class="note">{found["labelled"]} labelled frames of {found["labelled_groups"]} groups (patients, or what stands '
        f"in for them), {found['frames'] - found['labelled']} unlabelled ones; {escape(model['engine'])}, weights "
        f"{model['weights_sha256'][:12]}, seed {found['seed']}. Intervals are of 95 %.</p>{said}"
    )


def _places(found: dict[str, Any]) -> str:
    parts = [_place_table(found["per_source"], "source")]
    if found["per_site"]:
        parts.append(_place_table(found["per_site"], "site"))
    else:
        parts.append(
            '<p class="note">The manifest has no column named site; the source stands in for it.</p>'
        )
    parts.append(
        '<p class="note">Unlabelled frames are reported or referred, and no more can be said of them. Intervals by drawing '
        "groups again.</p>"
    )
    return "".join(parts)


def _place_table(rows: Sequence[dict[str, Any]], kind: str) -> str:
    def cell(row: dict[str, Any] | None) -> str:
        return "-" if row is None or row["value"] is None else with_interval(row["value"], row["bootstrap"])

    return table(
        [
            kind,
            "classes",
            "frames",
            "groups",
            "referred",
            "reported and wrong",
            "right among reported",
            "right of all",
        ],
        [
            [
                row[kind],
                ", ".join(row["classes"]) or "no label",
                row["frames"],
                row["groups"],
                cell(row["referred"]),
                cell(row["reported_wrong"]),
                cell(row["right_among_reported"]),
                cell(row["accuracy"]),
            ]
            for row in rows
        ],
        text_columns=2,
    )


def _distance(found: dict[str, Any]) -> str:
    outside = found["out_of_distribution"]
    everything = np.concatenate([np.asarray(scores) for scores in outside["scores"].values()])
    limit = float(
        max(2 * outside["threshold"], min(np.percentile(everything, 95), 12 * outside["threshold"]))
    )
    beyond = {
        name: sum(score > outside["threshold"] for score in scores)
        for name, scores in outside["scores"].items()
    }
    rows = [
        (f"{name}: {beyond[name]} of {len(scores)} beyond", scores)
        for name, scores in outside["scores"].items()
    ]
    return (
        "<figure>"
        + plot.histograms(
            "Out-of-distribution score by source",
            rows,
            limit=limit,
            mark=outside["threshold"],
            mark_label=f"limit {outside['threshold']:.2f}",
        )
        + '</figure><p class="note">The last bar holds everything beyond the axis. Frames beyond the limit are referred.</p>'
    )


def _rivals(found: dict[str, Any]) -> str:
    rows = []
    for row in found["rivals"]:
        if "reason" in row:
            rows.append([row["name"], row["reason"], "", "", ""])
            continue
        rows.append(
            [
                row["name"],
                percent(row["accuracy"]["value"]),
                with_interval(row["accuracy_lead"], row["accuracy_lead_interval"], signed=True),
                percent(row["mean_recall"]),
                with_interval(row["mean_recall_lead"], row["mean_recall_lead_interval"], signed=True),
            ]
        )
    stated = found["card"]
    card = ""
    if stated:
        card = (
            "<p>The card's own test patients: macro accuracy "
            f"{with_interval(stated['macro_accuracy']['value'], stated['macro_accuracy']['interval'])}"
        )
        if stated["baseline_macro_accuracy"]:
            row = stated["baseline_macro_accuracy"]
            card += f", random forest {with_interval(row['value'], row['interval'])}"
        card += (
            f". {escape(stated['statement'])} The card keeps no answers frame by frame, so that this difference is not paired; "
            "those below are.</p>"
        )
    return (
        card
        + table(["answer", "right", "package's lead", "mean sensitivity", "package's lead"], rows)
        + '<p class="note">Leads in points, all frames answered, paired on the same frames, by drawing groups again. A rival '
        "that learns from these very sources has an advantage over a package that never saw them.</p>"
    )


def _gallery(shown: Sequence[Shown]) -> str:
    parts = [
        (
            "<p>Each frame, and beside it with the activation map of the predicted class: bright where the evidence was strongest. "
            "<b>It shows where, not why.</b></p>"
        )
    ]
    titles = {"worst errors": "Worst errors", "referred": "Referred", "random": "Drawn at random"}
    for kind, title in titles.items():
        own = [frame for frame in shown if frame.kind == kind]
        parts.append(f"<h3>{title}</h3>")
        if not own:
            parts.append("<p>None.</p>")
            continue
        parts.append('<div class="gallery">')
        for frame in own:
            said = frame.caption
            why = f" ({', '.join(said['reasons'])})" if said["reasons"] else ""
            nothing = " No positive evidence anywhere: the map is empty." if said["empty_map"] else ""
            parts.append(
                f"<figure>{picture(frame.image, alt=said['file'])}<figcaption>{escape(said['file'])}, "
                f"{escape(said['source'])}<br>truth <b>{escape(said['truth'])}</b>, prediction <b>{escape(said['prediction'])}"
                f"</b> {percent(said['probability'])}, {said['decision']}{escape(why)}.{nothing}</figcaption></figure>"
            )
        parts.append("</div>")
    return "".join(parts)


def _training(found: dict[str, Any]) -> str:
    model = found["model"]
    data = model["training_data"]
    return (
        f"<p><b>{escape(data['statement'])}</b></p><p>{data['frames']} frames of {data['patients']} patients; sources: "
        f"{escape(', '.join(data['sources']))}; started from {escape(data['initial_weights'])}; seed {data['seed']}; "
        f"{escape(model['architecture'])}.</p><p>{escape(model['intended_use'])}</p>"
    )


def _files(names: Sequence[str]) -> str:
    links = ", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in names)
    return (
        f"<p>Beside this page: {links}.</p><p>Which item of TRIPOD+AI, CLAIM and STARD-AI is answered where: <code>{ITEMS}</code> "
        "in the source of Hemolink.</p>"
    )
