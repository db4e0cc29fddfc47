"""The part of a report's page that says whether its activation maps can be believed."""

from html import escape
from typing import Any

from model_zoo.report import plot
from model_zoo.report.html import table


def explanation_section(found: dict[str, Any] | None) -> str:
    """Checks of the maps as HTML.

    Args:
        found: As `explain` returns it; None where it was not asked for.
    """
    if found is None:
        return "<p>Not checked in this run (--explanations 0). An activation map shows where, not why.</p>"
    return (
        f"<p><b>{escape(found['statement'])}</b> Checked on {found['frames']} frames.</p>"
        + _randomisation(found)
        + _labels(found["label_randomisation"])
        + _deletion(found["deletion"])
        + _nucleus(found["nucleus"])
    )


def _randomisation(found: dict[str, Any]) -> str:
    rows, title = found["randomisation"], "<h3>Shuffled weights</h3>"
    if "reason" in rows:
        return f"{title}<p>{escape(rows['reason'])}.</p>"
    verdict = (
        f'<span class="good">The maps change (rank correlation below {rows["limit"]} with every part shuffled).</span>'
        if rows["changes"]
        else f'<span class="bad">Not every map is shown to change: {escape(_unchanged(rows))}.</span> Such a map goes by '
        "what comes before the shuffled part, or shows the picture more than the network."
    )
    return (
        f"{title}<p>{verdict}</p>"
        + table(
            ["shuffled", "rank correlation", "its absolute value", "structural similarity"],
            [
                [
                    row["shuffled"] + ("" if row["counts"] or number == 0 else " (does not count)"),
                    _with(row["rank_correlation"], row["rank_correlation_interval"]),
                    f"{row['absolute_rank_correlation']:.2f}",
                    _with(row["structural_similarity"], row["structural_similarity_interval"]),
                ]
                for number, row in enumerate(rows["rows"])
            ],
        )
        + f'<p class="note">Maps of the class first predicted, before and after, mean over {rows["shuffles"]} shuffles; 1 would be '
        "the same map. The first row is what maps of different frames share.</p>"
    )


def _labels(found: dict[str, Any]) -> str:
    title = "<h3>Shuffled labels</h3>"
    if "reason" in found:
        return f"{title}<p>{escape(found['reason'])}.</p>"
    if not found["learnt"]:
        said = '<span class="bad">The head could not learn the shuffled labels, so that its maps say nothing.</span>'
    elif found["changes"]:
        said = f'<span class="good">The maps follow what was taught (rank correlation below {found["limit"]}).</span>'
    else:
        said = '<span class="bad">The maps are not shown to follow what was taught.</span>'
    return (
        f"{title}<p>{said}</p>"
        + table(
            ["compared", "rank correlation", "its absolute value", "structural similarity"],
            [
                [
                    row["compared"],
                    _with(row["rank_correlation"], row["rank_correlation_interval"]),
                    f"{row['absolute_rank_correlation']:.2f}",
                    _with(row["structural_similarity"], row["structural_similarity_interval"]),
                ]
                for row in found["rows"]
            ],
        )
        + f'<p class="note">Maps of the class that a frame is labelled, {found["frames"]} labelled frames, {found["shuffles"]} shuffles; '
        f"{escape(found['method'])}. The head repeats {100 * found['repeats_true']:.0f} % of the true labels and "
        f"{100 * found['repeats_shuffled']:.0f} % of the shuffled ones.</p>"
    )


def _unchanged(rows: dict[str, Any]) -> str:
    return "; ".join(
        f"with the {row['shuffled']} shuffled, rank correlation "
        f"{_with(row['rank_correlation'], row['rank_correlation_interval'])}"
        for row in rows["rows"]
        if row["counts"] and row["rank_correlation_interval"][1] >= rows["limit"]
    )


def _deletion(found: dict[str, Any]) -> str:
    if "reason" in found:
        return f"<h3>Hiding and showing places</h3><p>{escape(found['reason'])}</p>"
    plots = []
    for key, title in (("deletion", "Places hidden"), ("insertion", "Places shown")):
        row = found[key]
        lines = [
            plot.Line(
                list(zip(found["steps"], found["curves"][key], strict=True)),
                f"most heat first: area {row['area']:.3f}",
                plot.COLOURS[0],
            ),
            plot.Line(
                list(zip(found["steps"], found["curves"][f"{key}_random"], strict=True)),
                f"at random: area {row['random_area']:.3f}",
                "#5c6670",
                dashed=True,
            ),
        ]
        plots.append(
            f"<figure>{plot.line_plot(title, lines, x='share of places', y='probability of the prediction')}</figure>"
        )
    said = "".join(
        f'<li class="{"good" if found[key]["beats_random"] else "bad"}">{name}: the heat '
        f"{'beats' if found[key]['beats_random'] else 'is not shown to beat'} random places, by "
        f"{_with(found[key]['better_by'], found[key]['interval'], digits=3)} of area.</li>"
        for key, name in (("deletion", "Hiding"), ("insertion", "Showing"))
    )
    return (
        f'<h3>Hiding and showing places</h3><ul>{said}</ul><div class="plots">{"".join(plots)}</div>'
        '<p class="note">Hidden places are blurred, which is itself unlike a smear; the comparison with random places, blurred '
        f"likewise ({found['random_orders']} orders a frame), allows for that.</p>"
    )


def _nucleus(found: dict[str, Any]) -> str:
    title = "<h3>Heat inside nuclei, on SIMULATED smears</h3>"
    if "reason" in found:
        return f"{title}<p>{escape(found['reason'])}</p>"
    if not found["rows"]:
        return f"{title}<p>No field with a white cell and a map was drawn; ask for more frames.</p>"
    return (
        title
        + table(
            ["mask", "share of the heat inside", "share of the area", "times", "more than the area (points)"],
            [
                [
                    row["mask"],
                    f"{100 * row['heat_inside']:.1f} %",
                    f"{100 * row['area']:.1f} %",
                    f"{row['times_area']:.2f}",
                    f"{100 * row['more_than_area']:+.1f} ({100 * row['interval'][0]:+.1f} to {100 * row['interval'][1]:+.1f})",
                ]
                for row in found["rows"]
            ],
        )
        + f'<p class="note">{found["fields"]} simulated fields, one a patient ({found["without_white_cells"]} further ones '
        f"without white cells, {found['without_heat']} without heat). The strongest place lies in a white cell in "
        f"{100 * found['peak_in_white_cell']:.0f} % of them. Heat without aim would have the share of the area. A map of 7 x 7 "
        "places is coarser than a nucleus, so that much heat lies beside it in any case. Healthy smears are told by what is "
        "absent, too.</p>"
    )


def _with(value: float, interval: list[float], *, digits: int = 2) -> str:
    return f"{value:.{digits}f} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
