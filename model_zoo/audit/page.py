"""The audit as one self-contained page: figures, plots as SVG, and what the probes saw."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.audit.chart import Interval, interval_chart
from model_zoo.audit.views import VIEWS, seen
from model_zoo.report.html import document, picture, write_whole

OFF_CHANCE: Final = (
    "Look for groups that belong together and were not united, or run again with another seed: one audit in twenty is off "
    "by chance."
)
PROBE_WORDS: Final = (
    "A ridge classifier tries to tell where an image comes from: by colour and texture of the whole image, by the empty "
    "plasma alone, and by texture without colour. An AUC of 50 % is chance. Where one source has several classes, it tries "
    "to tell these by the same views: by cells it should, by plasma it should not."
)


def write_page(path: Path, report: dict[str, Any], examples: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
    """Write the page; an old one stays whole until the new one is.

    Args:
        path: Of the page.
        report: As `audit_rows` makes it.
        examples: One image a source, with its name.
    """
    write_whole(path, render(report, examples))


def render(report: dict[str, Any], examples: Sequence[tuple[str, NDArray[np.uint8]]]) -> str:
    """The page as HTML, with nothing to load from elsewhere."""
    body = "\n".join(
        [
            _head(report),
            _paths(
                report["null_label"],
                "Random labels",
                "Labels were drawn at random, so that there is nothing to learn: what is above chance is memory of images "
                "seen in training.",
            ),
            _paths(
                report["real_label"],
                "Real labels",
                "The same two paths with the true labels. The gap between them is what the published protocol adds; what "
                "is left on the honest path may still be the source (below).",
            ),
            _probe(report["source_probe"], examples),
            _floor(report),
            _left_out(report["leave_one_source_out"]),
            _sizes(report),
        ]
    )
    return document("Audit of a data set", body)


def _head(report: dict[str, Any]) -> str:
    null, probe = report["null_label"], report["source_probe"]
    leaks = null["leaky"]["interval"][0] > null["chance"]
    clean = null["honest"]["interval"][0] <= null["chance"] <= null["honest"]["interval"][1]
    chance = f"{100 * null['chance']:.0f} %"
    verdicts = [
        (
            leaks,
            f"The published protocol learns random labels: {_percent(null['leaky'])}, and chance is {chance}.",
            "The published protocol does not beat chance on random labels here.",
        ),
        (
            not clean,
            f"The honest path is off chance on random labels: {_percent(null['honest'])}. {OFF_CHANCE}",
            f"The honest path stays at chance on random labels: {_percent(null['honest'])}.",
        ),
        (
            probe["fires"],
            f"The {escape(probe['target'])} shows in the background: AUC {_percent(probe)}.",
            "The background does not give the source away."
            if probe["figure"] is not None
            else f"The source probe is not possible: {escape(probe.get('reason', ''))}.",
        ),
    ]
    lines = "".join(
        f'<li class="{"bad" if bad else "good"}">{worse if bad else better}</li>'
        for bad, worse, better in verdicts
    )
    simulated = (
        '<p class="simulated">SIMULATED smears: says nothing of real ones.</p>' if report["simulated"] else ""
    )
    return (
        f"<h1>Audit of a data set</h1>{simulated}"
        f'<p class="note">{report["labelled"]} labelled of {report["images"]} images, {report["groups"]} groups, sources: '
        f"{escape(', '.join(report['sources']))}. Seed {report['settings']['seed']}. Intervals are of 95 %.</p><ul>{lines}</ul>"
    )


def _paths(found: dict[str, Any], title: str, words: str) -> str:
    rows = [
        _interval(row, f"{row['method']}, {name}", colour)
        for name, colour in (("leaky", "#b3391f"), ("honest", "#1f5fa8"))
        for row in found[name]["methods"]
    ]
    chart = interval_chart(rows, mark=found["chance"], mark_label="chance")
    metric = found["leaky"]["metric"]
    return (
        f"<h2>{title}</h2><p>{words} {found['images']} images, {found['leaky']['tested']} tested on the leaky path (augment, "
        f"then split 80/20), {found['honest']['tested']} originals on the honest one (split by group, then augment; every "
        f"image tested once). Figure: {metric}.</p><figure>{chart}</figure>"
    )


def _probe(probe: dict[str, Any], examples: Sequence[tuple[str, NDArray[np.uint8]]]) -> str:
    heads = [row for row in probe["rows"] if row["pair"] == "all"]
    pairs = [row for row in probe["rows"] if row["pair"] != "all"]
    parts = [f"<h2>Does the source show?</h2><p>{PROBE_WORDS}</p>"]
    for rows, title in ((heads, "All at once"), (pairs, "Source by source")):
        if rows:
            chart = interval_chart(
                [
                    _interval(
                        row,
                        f"{row['target'] if row['pair'] == 'all' else row['pair'].replace('|', ' / ')}: {row['input']}",
                        {"background": "#b3391f", "full": "#1f5fa8"}.get(row["input"], "#5c6670"),
                    )
                    for row in rows
                ],
                mark=0.5,
                mark_label="chance",
            )
            parts.append(f"<h3>{title}</h3><figure>{chart}</figure>")
    cells = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{picture(seen(image, view))}</td>' for view in VIEWS)}</tr>"
        for name, image in examples
    )
    header = "".join(f"<th>{view}</th>" for view in VIEWS)
    parts.append(f'<h3>What the probes see</h3><table class="seen"><tr><th></th>{header}</tr>{cells}</table>')
    return "".join(parts)


def _floor(report: dict[str, Any]) -> str:
    floor = report["source_only_floor"]
    return (
        "<h2>What the source alone gives</h2><p>Answering the most frequent class of an image's source, without looking at "
        f"the image, is right in <b>{_percent(floor)}</b>; always answering the largest class, in "
        f"{100 * floor['largest_class']:.1f} %. Mean of the recalls: {_percent(floor['macro_recall'])}. A model has to beat "
        "this before its accuracy says anything of disease.</p>"
    )


def _left_out(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        if row["identifiable"]:
            answer = "; ".join(f"{m['method']} {_percent(m)}" for m in row["methods"])
        else:
            answer = escape(row["statement"])
        lines.append(
            f"<tr><td>{escape(row['left_out'])}</td><td>{escape(row['class'])}</td><td class=n>{row['images']}</td>"
            f"<td>{answer}</td></tr>"
        )
    return (
        "<h2>Leaving one source out</h2><p>Trained on all other sources; the figure is the share of the left-out source's "
        "groups that are still called what they are.</p><table><tr><th>left out</th><th>class</th><th class=n>images</th>"
        f"<th>recall</th></tr>{''.join(lines)}</table>"
    )


def _sizes(report: dict[str, Any]) -> str:
    lines = "".join(
        f"<tr><td>{row['class']}</td><td class=n>{row['images']}</td><td class=n>{row['groups']}</td>"
        f"<td class=n>{row['sources']}</td><td class=n>{row['test_groups']}</td>"
        f"<td class=n>{100 * row['error_bound']:.1f} %</td><td class=n>&plusmn; {100 * row['half_width']:.1f} %</td></tr>"
        for row in report["sample_sizes"]
    )
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in report["statements"])
    return (
        "<h2>What so many images can show</h2><table><tr><th>class</th><th class=n>images</th><th class=n>groups</th>"
        "<th class=n>sources</th><th class=n>groups in test (20 %)</th><th class=n>error rate still possible<br>with no error "
        f"seen</th><th class=n>interval at<br>90 % recall</th></tr>{lines}</table><ul>{said}</ul>"
        '<p class="note">What this page cannot show: whether two groups are one patient under two names, whether labels are '
        "right, and how any model does where its images will come from. A probe at chance is no proof that nothing shows; "
        "another probe may find it.</p>"
    )


def _interval(row: dict[str, Any], label: str, colour: str) -> Interval:
    low, high = row["interval"]
    return Interval(label, row["figure"], low, high, colour)


def _percent(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{100 * row['figure']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
