"""The parts of a report's page that say how well the package does, as HTML; each takes report.json's document."""

from html import escape
from typing import Any, Final

import numpy as np

from model_zoo.audit.chart import Interval, interval_chart
from model_zoo.report import plot
from model_zoo.report.html import table
from model_zoo.report.wording import both, percent, with_interval

_REASONS: Final = {
    "out_of_distribution": "unlike the training smears",
    "ambiguous": "two classes or more cannot be told apart",
    "no_class_certain": "no class is probable enough",
    "acute_not_excluded": "acute leukaemia is not excluded",
}


def outcome_section(found: dict[str, Any]) -> str:
    """What becomes of the labelled frames."""
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
        [names[key], f"{row['hits']} / {row['frames']}", row["groups"], *both(row)]
        for key in names
        if (row := outcomes[key])
    ]
    return (
        f"<figure>{chart}</figure>"
        + table(["", "frames", "groups", "Wilson, over frames", "groups drawn again"], rows)
        + f'<p class="note">Macro accuracy, the mean of the sensitivities of the classes present: {percent(macro["value"])} '
        f"({percent(macro['low'])} to {percent(macro['high'])}), {escape(macro['method'])}.</p>"
        + f"<p>{escape(found['expectation'])}</p>"
    )


def classes_section(found: dict[str, Any]) -> str:
    """Confusion matrix and figures by class."""
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
                    *both(row[key]),
                ]
            )
        value = "not measured" if f1["value"] is None else with_interval(f1["value"], f1["bootstrap"])
        rows.append(["", "F1", "", "", "", value])
    header = ["class", "", "frames", "groups", "Wilson, over frames", "groups drawn again"]
    return (
        f"<figure>{plot.confusion(found['classes'], found['confusion'])}</figure>"
        + table(header, rows, text_columns=2)
        + '<p class="note">Every frame answered by its most probable class, referred or not. Where nothing varies between '
        "draws, the interval over groups is Wilson's.</p>"
    )


def curves_section(found: dict[str, Any]) -> str:
    """ROC and precision-recall curves."""
    if not found["curves"]:
        return "<p>Not possible: the labelled frames are of one class only.</p>"
    roc, recall = [], []
    for number, row in enumerate(found["curves"]):
        colour = plot.COLOURS[number]
        area = with_interval(row["auc"], row["auc_interval"])
        precision = with_interval(row["average_precision"], row["average_precision_interval"])
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


def calibration_section(found: dict[str, Any]) -> str:
    """Reliability and prediction sets."""
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
        [[part["size"], part["frames"], percent(part["share"])] for part in sets["sizes"]],
    )
    by_class = table(
        ["class", "frames", "set holds the truth"],
        [
            [part["class"], part["frames"], with_interval(part["value"], part["bootstrap"])]
            for part in sets["by_class"]
        ],
    )
    off = 100 * abs(sets["coverage"]["value"] - sets["target"])
    return (
        f'<div class="plots"><figure>{diagram}</figure><div><p>Expected calibration error: '
        f"<b>{with_interval(row['expected_calibration_error'], row['interval'])}</b>. Exact probabilities would show "
        f"{percent(row['floor'])} by chance with so many frames (up to {percent(row['floor_high'])} in 95 of 100 "
        f"sets).<br>Mean probability {percent(row['mean_confidence'])}, right {percent(row['accuracy'])}.</p>"
        f"<h3>Prediction sets</h3><p>Target {percent(sets['target'])}, found "
        f"<b>{with_interval(sets['coverage']['value'], sets['coverage']['bootstrap'])}</b>: "
        f'<span class="{"good" if off <= 3 else "bad"}">{off:.1f} points off</span>. '  # noqa: PLR2004
        f"{escape(sets['method'])}, {sets['calibration_frames']} calibration frames of {sets['calibration_patients']} "
        f"patients; mean size {sets['mean_size']:.2f}.</p>{sizes}{by_class}</div></div>"
    )


def refer_section(found: dict[str, Any]) -> str:
    """Risk and coverage, and why frames are referred."""
    curve = found["risk_coverage"]
    point = curve["operating_point"]
    lines = [plot.Line([*map(tuple, curve["curve"])], "by probability alone", plot.COLOURS[0])]
    highest = max(0.05, *(risk for _, risk in curve["curve"]))
    if point["risk"] is not None:
        lines.append(
            plot.Line(
                [(point["coverage"], point["risk"])],
                f"this package: {percent(point['coverage'])} answered, {percent(point['risk'])} wrong",
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
            percent(row["share_of_labelled"]),
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
        f"<b>{with_interval(found['outcomes']['referred']['value'], found['outcomes']['referred']['bootstrap'])}</b> of the labelled "
        f"frames. A frame may have more than one reason.</p>{why}<p class=note>Area below the curve: "
        f"{with_interval(curve['area'], curve['area_interval'])}.</p></div></div>"
    )
