"""The parts of a report's page on the guard, as HTML; each takes report.json's document."""

from collections.abc import Sequence
from html import escape
from typing import Any

from model_zoo.report.html import table
from model_zoo.report.wording import percent, with_interval


def acute_section(found: dict[str, Any]) -> str:
    """The acute rule: what it is, what was promised, and what became of acute frames here."""
    rule = found["thresholds"]["acute"]
    here = found["outcomes"]["acute_missed"]
    if rule is None:
        said = "<p>The package's card has no acute rule (it was made by an earlier release, or knows no acute class).</p>"
        return said + _acute_here(here)
    stated = found["thresholds"]["measured"]
    rows = [
        [
            "calibration groups, by the rule alone",
            rule["missed"]["n"],
            _cell(rule["missed"]),
            percent(rule["upper_bound"]),
        ],
    ]
    if stated:
        rows.append(
            [
                "the card's test groups, all rules",
                stated["acute_missed"]["n"],
                _cell(stated["acute_missed"]),
                percent(stated["acute_upper_bound"]),
            ]
        )
    trial = found["guard"]
    if here["value"] is not None:
        bound = percent(trial["acute_upper_bound"]) if trial else ""
        rows.append(
            [
                "these frames, all rules",
                here["frames"],
                with_interval(here["value"], here["bootstrap"]),
                bound,
            ]
        )
    mark = "good" if rule["shown"] else "bad"
    shown = "promised for further groups" if rule["shown"] else "an aim: too few groups to promise it"
    return (
        f"<p>A frame whose probability of {escape(' and '.join(rule['labels']))} together is above "
        f"<b>{rule['threshold']:.4f}</b> is never reported as another class; it is referred. Miss rate wanted: at most "
        f'{percent(rule["miss_limit"])}, <span class="{mark}">{shown}</span>.</p>'
        + table(["acute frames reported as not acute", "frames", "share", "of further groups at most"], rows)
        + f'<p class="note">{escape(rule["statement"])} The bound is of the share of groups with any such frame, 95 %, one-sided. The '
        f"rule refers {_cell(rule['cost'])} % of calibration frames that are not acute.</p>"
    )


def _acute_here(here: dict[str, Any]) -> str:
    if here["value"] is None:
        return "<p>No acute frame among these.</p>"
    return f"<p>Acute frames reported as not acute here: {with_interval(here['value'], here['bootstrap'])} of {here['frames']}.</p>"


def outside_section(found: dict[str, Any]) -> str:
    """How well frames outside are told from those inside."""
    detector, parts = found["thresholds"]["detector"], []
    for title, measured in (
        ("On these frames", found["guard"]),
        ("As the card has it", found["thresholds"]["measured"]),
    ):
        if measured is None:
            continue
        rows = [
            [
                row["kind"],
                row["frames"],
                f"{row['auroc']['value']:.4f} ({row['auroc']['low']:.3f} to {row['auroc']['high']:.3f})",
                _cell(row["let_in"]),
                _cell(row["reported"]),
                _cell(row["agreeing"]) if row["agreeing"] else "-",
            ]
            for row in measured["outside"]
        ]
        if rows:
            parts.append(
                f'<h3>{title}</h3><p class="note">{escape(measured["statement"])} {measured["accepted"]["n"]} frames inside, '
                f"{_cell(measured['accepted'])} % of them accepted; {escape(measured['engine'])}.</p>"
                + table(["outside", "frames", "AUROC", "let in, %", "reported, %", "right of these, %"], rows)
            )
    if found["guard"] is None:
        parts.insert(
            0,
            '<p class="note">Fewer than two groups of labelled frames come from the sources that the package was trained on '
            f"({escape(', '.join(found['model']['training_data']['sources']))}): there is nothing to compare these frames with. The "
            "histogram shows how many lie beyond the limit.</p>",
        )
    blocks = ", ".join(f"{block['name']} ({block['features']})" for block in detector["blocks"])
    return (
        "".join(parts)
        + f'<p class="note">Detector: {escape(detector["method"])}; blocks of features: {escape(blocks)}; '
        f"{len(detector['clusters']) or 'no'} clusters. {escape(detector['statement'])} Blank, blurred and magnified frames are made of "
        "these by a program, and stand for what a microscope does; AUROC is of the score alone, 1 is perfect, 0.5 chance.</p>"
    )


def thresholds_section(found: dict[str, Any]) -> str:
    """Every limit of the card, and where it comes from."""
    limits = found["thresholds"]
    sets = limits["sets"]
    rows = [
        [
            "temperature of the softmax",
            f"{limits['temperature']:.3f}",
            f"{sets['frames']} frames, {sets['groups']} groups",
        ],
        *(
            [
                f"{name} is in the prediction set from",
                "never: not trained" if value is None else f"{value:.4f}",
                sets["method"],
            ]
            for name, value in sets["by_class"].items()
        ),
        [
            "out-of-distribution score up to",
            f"{limits['detector']['threshold']:.3f}",
            f"{percent(limits['detector']['acceptance'])} of {limits['detector']['groups'] or sets['groups']} held-out groups",
        ],
    ]
    if limits["acute"]:
        rows.append(
            [
                f"probability of {' and '.join(limits['acute']['labels'])} up to, to report another class",
                f"{limits['acute']['threshold']:.4f}",
                f"{limits['acute']['groups']} acute groups",
            ]
        )
    untrained = [name for name in found["classes"] if name not in limits["trained"]]
    note = (
        f"<p><b>Not trained: {escape(', '.join(untrained))}.</b> These have a probability of 0 and are in no prediction set: such a "
        "frame can only be referred, or called something else.</p>"
        if untrained
        else ""
    )
    said = f'<p class="note">{escape(sets["statement"])}</p>' if sets["statement"] else ""
    return note + table(["limit", "value", "from"], rows) + said


def expectation_section(found: dict[str, Any]) -> str:
    """What the card expects, and whether it came true here."""
    promised = found["promised"]
    if promised is None or not promised["rows"]:
        return "<p>The package's card expects nothing: it was made by an earlier release.</p>"
    parts = []
    if promised["mixed"]:
        parts.append(
            '<p class="note">These frames mix sources that the package was trained on with others: neither expectation is meant for such a '
            "mixture. Look at the figures by source.</p>"
        )
    names = {
        "reported_wrong": "reported and wrong, of all",
        "error_among_reported": "wrong, of the reported",
        "referred": "referred",
    }
    for row in promised["rows"]:
        lines = []
        for key, title in names.items():
            actual = row["found"][key] if row["found"] else None
            lines.append(
                [
                    title,
                    _cell(row[key]),
                    "-"
                    if actual is None or actual["value"] is None
                    else with_interval(actual["value"], actual["interval"]),
                    _verdict(actual),
                ]
            )
        parts.append(
            f"<h3>{escape(row['scope'].capitalize())}</h3><p>{escape(row['statement'])}</p>"
            + table(["", "expected, %", "found here, %", ""], lines)
        )
    if promised["left_out"]:
        parts.append(_left_out(promised["left_out"]))
    return "".join(parts)


def _left_out(rows: Sequence[dict[str, Any]]) -> str:
    header = [
        "left out of training",
        "frames",
        "reported, right",
        "reported, wrong",
        "reported, truth unknown",
        "referred",
    ]
    return "<h3>One source left out at a time</h3>" + table(
        header,
        [
            [
                row["source"] + ("" if row["identifiable"] else " (its classes occur nowhere else)"),
                row["frames"],
                row["reported_right"],
                row["reported_wrong"],
                row["reported_unknown"],
                row["referred"],
            ]
            for row in rows
        ],
    )


def _verdict(actual: dict[str, Any] | None) -> str:
    if actual is None:
        return "not meant for these frames"
    return actual["verdict"] or "nothing reported"


def _cell(estimate: dict[str, Any]) -> str:
    return with_interval(estimate["value"], (estimate["low"], estimate["high"]))
