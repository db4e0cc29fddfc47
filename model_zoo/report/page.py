"""A report as one self-contained page."""

from collections.abc import Sequence
from html import escape
from typing import Any, Final

import numpy as np

from model_zoo.audit.chart import Interval, interval_chart
from model_zoo.report import plot
from model_zoo.report.explanation_section import explanation_section
from model_zoo.report.html import document as whole
from model_zoo.report.html import picture, table
from model_zoo.report.run import Report, Shown

ITEMS: Final = "docs/reporting-items.md"
_STYLE: Final = """
.wide{overflow-x:auto}.plots{display:flex;flex-wrap:wrap;gap:1.2rem}.plots figure{margin:0;flex:none;max-width:100%}.plots>div{flex:1;min-width:18rem}td.n{white-space:nowrap}
.gallery{display:flex;flex-wrap:wrap;gap:1rem}.gallery figure{margin:0;max-width:27rem;font-size:.85rem;line-height:1.35}
.gallery img{width:auto;height:auto;max-width:100%}.verdict{font-size:1.05rem;border-left:4px solid #9c1c1c;padding-left:.8rem}
td,th{font-size:.92rem}nav a{margin-right:.9rem}
"""
_REASONS: Final = {
    "out_of_distribution": "unlike the training smears",
    "ambiguous": "two classes or more cannot be told apart",
    "no_class_certain": "no class is probable enough",
}
_SECTIONS: Final = (
    ("outcome", "What becomes of a frame"),
    ("classes", "By class"),
    ("curves", "ROC and precision-recall"),
    ("calibration", "Are the probabilities right?"),
    ("refer", "Referring"),
    ("places", "By source and site"),
    ("distance", "How far from the training smears"),
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
        "outcome": _outcome(found),
        "classes": _classes(found),
        "curves": _curves(found),
        "calibration": _calibration(found),
        "refer": _refer(found),
        "places": _places(found),
        "distance": _distance(found),
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


def _outcome(found: dict[str, Any]) -> str:
    names = {
        "reported_right": "reported and right",
        "reported_wrong": "reported and wrong",
        "referred": "referred to a person",
        "right_among_reported": "right among the reported",
        "wrong_caught": "wrong answers that were referred",
        "right_among_referred": "referred although right",
        "acute_missed": "acute leukaemia reported as not acute",
        "accuracy": "right if every frame were answered",
    }
    outcomes = found["outcomes"]
    macro = found["macro_accuracy"]
    chart = interval_chart(
        [
            Interval(
                names[key],
                outcomes[key]["value"],
                outcomes[key]["bootstrap"][0],
                outcomes[key]["bootstrap"][1],
                "#b3391f" if key in ("reported_wrong", "acute_missed") else "#1f5fa8",
            )
            for key in names
            if outcomes[key]["value"] is not None
        ]
    )
    rows = [
        [names[key], f"{row['hits']} / {row['frames']}", row["groups"], *_both(row)]
        for key in names
        if (row := outcomes[key])
    ]
    return (
        f"<figure>{chart}</figure>"
        + table(["", "frames", "groups", "Wilson, over frames", "groups drawn again"], rows)
        + f'<p class="note">Macro accuracy, the mean of the sensitivities of the classes present: {_percent(macro["value"])} '
        f"({_percent(macro['low'])} to {_percent(macro['high'])}), {escape(macro['method'])}.</p>"
        + f"<p>{escape(found['expectation'])}</p>"
    )


def _classes(found: dict[str, Any]) -> str:
    rows = []
    for row in found["per_class"]:
        f1 = row["f1"]
        for position, (title, key) in enumerate(
            (("sensitivity", "sensitivity"), ("specificity", "specificity"), ("PPV", "ppv"))
        ):
            rows.append(
                [
                    row["class"] if position == 0 else "",
                    title,
                    f"{row[key]['hits']} / {row[key]['frames']}",
                    row[key]["groups"],
                    *_both(row[key]),
                ]
            )
        value = "not measured" if f1["value"] is None else _with(f1["value"], f1["bootstrap"])
        rows.append(["", "F1", "", "", "", value])
    header = ["class", "", "frames", "groups", "Wilson, over frames", "groups drawn again"]
    return (
        f"<figure>{plot.confusion(found['classes'], found['confusion'])}</figure>"
        + table(header, rows, text_columns=2)
        + '<p class="note">Every frame answered by its most probable class, referred or not. Where nothing varies between '
        "draws, the interval over groups is Wilson's.</p>"
    )


def _curves(found: dict[str, Any]) -> str:
    if not found["curves"]:
        return "<p>Not possible: the labelled frames are of one class only.</p>"
    roc, recall = [], []
    for number, row in enumerate(found["curves"]):
        colour = plot.COLOURS[number]
        area = _with(row["auc"], row["auc_interval"])
        precision = _with(row["average_precision"], row["average_precision_interval"])
        roc.append(plot.Line([*map(tuple, row["roc"])], f"{row['class']}: AUC {area}", colour))
        recall.append(
            plot.Line([*map(tuple, row["precision_recall"])], f"{row['class']}: area {precision}", colour)
        )
    chance = plot.Line([(0, 0), (1, 1)], "", "#5c6670", dashed=True)
    return (
        '<div class="plots"><figure>'
        + plot.line_plot(
            "ROC, each class against the rest", [chance, *roc], x="1 - specificity", y="sensitivity"
        )
        + "</figure><figure>"
        + plot.line_plot("Precision and recall", recall, x="recall (sensitivity)", y="precision (PPV)")
        + '</figure></div><p class="note">Percent; intervals by drawing groups again. With every pair in the right order, the '
        "interval is exact for the groups of the smaller side. Precision holds for the shares of classes here.</p>"
    )


def _calibration(found: dict[str, Any]) -> str:
    row, sets = found["reliability"], found["prediction_sets"]
    dots = [(part["confidence"], part["accuracy"]) for part in row["bins"]]
    low = min(0.8, *(min(x, part["wilson"][0]) for (x, _), part in zip(dots, row["bins"], strict=True)))
    low = np.floor(10 * low) / 10
    diagram = plot.line_plot(
        "Reliability, 15 bins of equal mass",
        [
            plot.Line([(low, low), (1, 1)], "", "#5c6670", dashed=True),
            plot.Line(
                dots, "", plot.COLOURS[0], dots=True, whiskers=[tuple(p["wilson"]) for p in row["bins"]]
            ),
        ],
        x="probability of the answer",
        y="share that is right",
        x_range=(low, 1),
        y_range=(low, 1),
    )
    sizes = table(
        ["classes in the set", "frames", "share"],
        [[part["size"], part["frames"], _percent(part["share"])] for part in sets["sizes"]],
    )
    by_class = table(
        ["class", "frames", "set holds the truth"],
        [
            [part["class"], part["frames"], _with(part["value"], part["bootstrap"])]
            for part in sets["by_class"]
        ],
    )
    off = 100 * abs(sets["coverage"]["value"] - sets["target"])
    return (
        f'<div class="plots"><figure>{diagram}</figure><div><p>Expected calibration error: '
        f"<b>{_with(row['expected_calibration_error'], row['interval'])}</b>. Exact probabilities would show "
        f"{_percent(row['floor'])} by chance with so many frames (up to {_percent(row['floor_high'])} in 95 of 100 "
        f"sets).<br>Mean probability {_percent(row['mean_confidence'])}, right {_percent(row['accuracy'])}.</p>"
        f"<h3>Prediction sets</h3><p>Target {_percent(sets['target'])}, found "
        f"<b>{_with(sets['coverage']['value'], sets['coverage']['bootstrap'])}</b>: "
        f'<span class="{"good" if off <= 3 else "bad"}">{off:.1f} points off</span>. '  # noqa: PLR2004
        f"{escape(sets['method'])}, {sets['calibration_frames']} calibration frames of {sets['calibration_patients']} "
        f"patients; mean size {sets['mean_size']:.2f}.</p>{sizes}{by_class}</div></div>"
    )


def _refer(found: dict[str, Any]) -> str:
    curve = found["risk_coverage"]
    point = curve["operating_point"]
    lines = [plot.Line([*map(tuple, curve["curve"])], "by probability alone", plot.COLOURS[0])]
    highest = max(0.05, *(risk for _, risk in curve["curve"]))
    if point["risk"] is not None:
        lines.append(
            plot.Line(
                [(point["coverage"], point["risk"])],
                f"this package: {_percent(point['coverage'])} answered, {_percent(point['risk'])} wrong",
                plot.COLOURS[1],
                dots=True,
            )
        )
    top = float(np.ceil(20 * highest) / 20)
    diagram = plot.line_plot(
        "Risk and coverage",
        lines,
        x="share of frames answered",
        y="share of these that is wrong",
        y_range=(0, top),
    )
    rows = [
        [
            f"{_REASONS.get(row['reason'], row['reason'])} ({row['reason']})",
            row["labelled"],
            _percent(row["share_of_labelled"]),
            row["unlabelled"],
        ]
        for row in found["reasons"]
    ]
    why = (
        table(["reason", "labelled frames", "share", "unlabelled frames"], rows)
        if rows
        else "<p>No frame was referred.</p>"
    )
    nothing = "" if point["risk"] is not None else "<p><b>No labelled frame was reported.</b></p>"
    return (
        f'<div class="plots"><figure>{diagram}</figure><div>{nothing}<p>Referred: '
        f"<b>{_with(found['outcomes']['referred']['value'], found['outcomes']['referred']['bootstrap'])}</b> of the labelled "
        f"frames. A frame may have more than one reason.</p>{why}<p class=note>Area below the curve: "
        f"{_with(curve['area'], curve['area_interval'])}.</p></div></div>"
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
        return "-" if row is None or row["value"] is None else _with(row["value"], row["bootstrap"])

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
                _percent(row["accuracy"]["value"]),
                _with(row["accuracy_lead"], row["accuracy_lead_interval"], signed=True),
                _percent(row["mean_recall"]),
                _with(row["mean_recall_lead"], row["mean_recall_lead_interval"], signed=True),
            ]
        )
    stated = found["card"]
    card = ""
    if stated:
        card = (
            "<p>The card's own test patients: macro accuracy "
            f"{_with(stated['macro_accuracy']['value'], stated['macro_accuracy']['interval'])}"
        )
        if stated["baseline_macro_accuracy"]:
            row = stated["baseline_macro_accuracy"]
            card += f", random forest {_with(row['value'], row['interval'])}"
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
                f"</b> {_percent(said['probability'])}, {said['decision']}{escape(why)}.{nothing}</figcaption></figure>"
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


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _with(value: float, interval: Sequence[float], *, signed: bool = False) -> str:
    mark = "+" if signed else ""
    return f"{100 * value:{mark}.1f} ({100 * interval[0]:{mark}.1f} to {100 * interval[1]:{mark}.1f})"


def _both(row: dict[str, Any]) -> tuple[str, str]:
    if row["value"] is None:
        return "no frame", ""
    return _with(row["value"], row["wilson"]), _with(row["value"], row["bootstrap"])
