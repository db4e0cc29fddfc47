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
        "what comes before the shuffled part (in a DenseNet, channels of earlier stages reach the head as they are), or shows "
        "the picture more than the network."
    )
    return (
        f"{title}<p>{verdict}</p>"
        + table(
            ["shuffled", "rank correlation", "its absolute value", "structural similarity"],
            [
                [
                    row["shuffled"],
                    _with(row["rank_correlation"], row["rank_correlation_interval"]),
                    f"{row['absolute_rank_correlation']:.2f}",
                    _with(row["structural_similarity"], row["structural_similarity_interval"]),
                ]
                for row in rows["rows"]
            ],
        )
        + '<p class="note">Maps of the class first predicted, before and after; 1 would be the same map. The first row is what '
        f"maps of different frames share. Shuffled labels: {escape(found['label_randomisation']['reason'])}.</p>"
    )


def _unchanged(rows: dict[str, Any]) -> str:
    return "; ".join(
        f"with the {row['shuffled']} shuffled, rank correlation "
        f"{_with(row['rank_correlation'], row['rank_correlation_interval'])}"
        for row in rows["rows"][1:]
        if row["rank_correlation_interval"][1] >= rows["limit"]
    )


def _deletion(found: dict[str, Any]) -> str:
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
