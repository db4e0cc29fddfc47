"""A study as one self-contained page: the published table beside ours, loss curves, confusion, and the truth."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import cv2

from model_zoo.audit.chart import Interval, interval_chart
from model_zoo.report import plot
from model_zoo.report.html import document, picture, table, write_whole
from model_zoo.report.wording import both, with_interval
from model_zoo.study.made import MADE, MadeImages

PAGE_FILE: Final = "study.html"
SHEET_FILE: Final = "sheet-MADE.png"
_COLOURS: Final = {"as-published": "#b3391f", "honest": "#1f5fa8"}
_HUNDRED: Final = 100
_OTHER: Final = "#8a5a00"
_STYLE: Final = """
.wide{overflow-x:auto}.plots{display:flex;flex-wrap:wrap;gap:1.2rem}.plots figure{margin:0;flex:none;max-width:100%}
td,th{font-size:.92rem}td.n{white-space:nowrap}.verdict{border-left:4px solid #9c1c1c;padding-left:1.8rem}
.aside{background:#7a1fa2;color:#fff;padding:.1rem .5rem;font-size:.8rem;vertical-align:middle}
.sheet img{width:100%;height:auto;object-fit:contain}
"""


def write_page(folder: Path, report: dict[str, Any], made: MadeImages | None) -> Path:
    """Write the page, and the sheet of made images where there are any; old ones stay whole until the new ones are."""
    if made is not None:
        cv2.imwrite(str(folder / SHEET_FILE), made.sheet())
    path = folder / PAGE_FILE
    write_whole(path, render(report, made))
    return path


def render(report: dict[str, Any], made: MadeImages | None = None) -> str:
    """The page as HTML, with nothing to load from elsewhere."""
    parts = [
        _head(report),
        _overall(report),
        *[_protocol(name, one, report) for name, one in report["protocols"].items()],
        _truth(report),
        _made(report, made),
        _conditions(report),
    ]
    return document(f"Study with {report['architecture']}", "\n".join(parts), style=_STYLE)


def _head(report: dict[str, Any]) -> str:
    mark = (
        '<p class="simulated">SIMULATED smears: says nothing of real ones.</p>' if report["simulated"] else ""
    )
    null = ", with random labels" if report["null_labels"] else ""
    said = "".join(f"<li>{escape(line)}</li>" for line in report["warnings"])
    return (
        f"<h1>The published study with {escape(report['architecture'])}{null}</h1>{mark}"
        '<p class="note">Research figures; not a diagnosis, and not a medical device.</p>'
        f'<ul class="verdict">{said}</ul>'
    )


def _overall(report: dict[str, Any]) -> str:
    known = report["published"]
    bars, rows = [], []
    if known is not None and not report["null_labels"]:
        rows.append(
            (
                "published",
                known["test_images"],
                "not stated",
                known["errors"],
                f"{known['accuracy']:.2f}",
                "none given",
            )
        )
    for name, one in report["protocols"].items():
        figures = one["figures"]
        wilson, drawn = both(figures["accuracy"])
        rows.append((name, figures["images"], figures["groups"], figures["errors"], wilson, drawn))
        bars.append(_bar(f"{name}, test", figures["accuracy"], name))
    header = (
        "",
        "tested",
        "groups",
        "errors",
        "accuracy % (Wilson, over images)",
        "accuracy % (bootstrap over groups)",
    )
    marks = {"mark": known["accuracy"] / 100, "mark_label": "published"} if known is not None else {}
    if report["null_labels"]:
        marks = {"mark": 1 / len(report["classes"]), "mark_label": "chance"}
    return f"<h2>All classes{_aside(report)}</h2>{table(header, rows)}{interval_chart(bars, **marks)}"


def _aside(report: dict[str, Any]) -> str:
    """What must be said beside a figure, after a heading."""
    return f' <span class="aside">{escape(report["caveat"])}</span>' if report["caveat"] else ""


def _bar(label: str, share: dict[str, Any], name: str) -> Interval:
    low, high = share["bootstrap"]
    return Interval(label, share["value"] or 0.0, low, high, _COLOURS.get(name, _OTHER))


def _protocol(name: str, one: dict[str, Any], report: dict[str, Any]) -> str:
    figures, known = one["figures"], report["published"]
    rows = []
    for row in figures["by_class"]:
        said = (
            f"{known['by_class'][row['class']]:.2f}"
            if known is not None and not report["null_labels"]
            else "-"
        )
        f1 = with_interval(row["f1"]["value"], row["f1"]["bootstrap"])
        shares = [both(row[key])[1] or "-" for key in ("accuracy", "precision", "recall")]
        rows.append((row["class"], row["images"], row["groups"], said, *shares, f1))
    header = (
        "class",
        "images",
        "groups",
        "published accuracy %",
        "accuracy %",
        "precision %",
        "recall %",
        "F1 %",
    )
    return (
        f"<h2>{escape(name)}{_aside(report)}</h2><p>{escape(one['how'])}: {one['train_images']} images to train on, {one['test_images']} to "
        f"test on, {100 * one['tested_with_sibling_in_training']:.1f} % of these with a copy of the same original in "
        f"training.</p>{table(header, rows)}"
        '<p class="note">Accuracy of a class is the study\'s: that class or not, over all tested images. Intervals are 95 %, '
        "whole groups drawn again.</p>"
        f'<div class="plots"><figure>{_losses(one["curve"])}</figure><figure>{_shares(one["curve"])}</figure>'
        f"<figure>{plot.confusion(figures['labels'], figures['confusion'])}</figure></div>"
    )


def _losses(curve: Sequence[dict[str, Any]]) -> str:
    top = max([row[key] for row in curve for key in ("train_loss", "test_loss")] or [1.0])
    return _curve("Loss", curve, ("train_loss", "test_loss"), top=max(min(top, 6.0), 0.1))


def _shares(curve: Sequence[dict[str, Any]]) -> str:
    return _curve("Accuracy", curve, ("train_accuracy", "test_accuracy"), top=1.0)


def _curve(title: str, curve: Sequence[dict[str, Any]], keys: tuple[str, str], *, top: float) -> str:
    lines = [
        plot.Line(
            [(row["batch"] / _HUNDRED, row[key]) for row in curve],
            key.replace("_", " "),
            plot.COLOURS[number],
        )
        for number, key in enumerate(keys)
    ]
    last = max([row["batch"] for row in curve] or [1]) / _HUNDRED
    return plot.line_plot(
        title, lines, x="hundreds of batches", y=title.lower(), x_range=(0, last), y_range=(0, top)
    )


def _truth(report: dict[str, Any]) -> str:
    if report["truth"] is None:
        return ""
    bars = []
    rows = []
    for row in report["truth"]:
        name = row["protocol"]
        bars += [
            _bar(f"{name}: its own figure", row["promise"], name),
            _bar(f"{name}: on fresh patients", row["truth"], name),
        ]
        rows.append(
            (
                name,
                with_interval(row["promise"]["value"], row["promise"]["bootstrap"]),
                with_interval(row["truth"]["value"], row["truth"]["bootstrap"]),
                f"{100 * row['gap']:+.1f}",
                "yes" if row["interval_holds_truth"] else "NO",
            )
        )
    first = report["truth"][0]
    header = (
        "protocol",
        "its own figure %",
        "on fresh patients %",
        "promised too much, points",
        "interval holds the truth",
    )
    return (
        f"<h2>Which figure tells the truth?{_aside(report)}</h2><p>Balanced accuracy (mean recall) of each network in its own test, and "
        f"on {first['images']} fresh images of {first['groups']} patients that no protocol has seen.</p>"
        f"{interval_chart(bars)}{table(header, rows)}"
    )


def _made(report: dict[str, Any], made: MadeImages | None) -> str:
    if report["made"] is None:
        return ""
    rows = [
        (where, one["images"], one["groups"], with_interval(one["value"], one["interval"], signed=True))
        for where, one in (("test", report["made"]["test"]), ("fresh patients", report["made"]["fresh"]))
        if one is not None
    ]
    sheet = ""
    if made is not None:
        sheet = f'<div class="sheet">{picture(made.sheet(), alt=f"{MADE} images, by class")}</div>'
    return (
        f"<h2>{MADE} images{_aside(report)}</h2><p>{report['made']['images']} images of a generator that learnt from the training groups only "
        "were added to the honest training part. What that changes, in points of accuracy (paired bootstrap over groups):</p>"
        f"{table(('images', 'n', 'groups', 'gain or loss'), rows)}{sheet}"
        f'<p class="note">Every picture here was made by a program, and shows no patient: {MADE}.</p>'
    )


def _conditions(report: dict[str, Any]) -> str:
    recipe = report["recipe"]
    rows = [
        (
            name,
            report["originals"][name],
            report["groups"][name],
            ", ".join(f"{s} {n}" for s, n in own.items()),
        )
        for name, own in report["sources"].items()
    ]
    sizes = (
        f"{recipe['size']} x {recipe['size']} pixels, {recipe['batches']} batches of {recipe['batch_size']}"
    )
    return (
        "<h2>Conditions</h2>"
        f"<p>{escape(sizes)}; weights at the start: {escape(report['start'])}; seed {report['seed']}.</p>"
        f"{table(('class', 'originals', 'groups', 'sources'), rows, text_columns=1)}"
    )
