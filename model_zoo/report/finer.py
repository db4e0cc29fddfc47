"""Subtypes in a report: how well a package tells them apart on the manifest's own, how deep it answers, and whom it suspects."""

from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.intervals import proportion
from model_zoo.package import ModelPackage
from model_zoo.report.answers import Answers
from model_zoo.report.html import table
from model_zoo.report.wording import percent
from model_zoo.tree.answer import FinerHead, branch_of
from model_zoo.tree.fitting import Labelled, auroc, by_patient, nodes_of, path_in, told_by
from model_zoo.tree.statement import FinerBranch


def finer_figures(package: ModelPackage, answers: Answers) -> dict[str, Any]:
    """Figures of every disease that the package divides and the manifest has subtypes of.

    Args:
        package: With finer labels or without.
        answers: Of all labelled frames.

    Returns:
        `branches`, one entry a disease, or `reason` where there is nothing to measure.
    """
    head = FinerHead.from_package(package)
    if head is None:
        return {"reason": "the package tells no subtypes apart"}
    everything = Labelled(
        answers.outputs.features,
        nodes_of([row.label for row in answers.rows], [row.subtype for row in answers.rows]),
        answers.groups,
    )
    own = [_branch(head, branch, everything, answers) for branch in head.stated.branches]
    found = [one for one in own if one is not None]
    return (
        {"branches": found} if found else {"reason": "the manifest states no subtype that the package knows"}
    )


def _branch(
    head: FinerHead, stated: FinerBranch, everything: Labelled, answers: Answers
) -> dict[str, Any] | None:
    branch = branch_of(stated)
    told = told_by(branch, everything.of(stated.disease))
    chances = head.within(stated.disease, told.features)
    if not told.nodes or chances is None:
        return None
    paths = [path_in(branch, node) for node in told.nodes]
    areas = {path: auroc(branch, path, chances, paths, told.groups) for path in branch.nodes}
    return {
        "disease": stated.disease,
        "system": stated.system,
        "frames": len(paths),
        "groups": len(np.unique(told.groups)),
        "nodes": [
            {
                "path": node.path,
                "name": node.name,
                "frames": sum(one == node.path or one.startswith(node.path + "/") for one in paths),
                "auroc": area.model_dump(mode="json") if (area := areas[node.path]) is not None else None,
            }
            for node in stated.nodes
        ],
        "depth": _depth(stated.disease, everything, answers),
        "suspicions": [
            {
                "path": one.path,
                "threshold": one.threshold,
                **_suspected(
                    chances[:, branch.below(one.path)].sum(axis=1),
                    one.path,
                    one.threshold,
                    paths,
                    told.groups,
                ),
            }
            for one in stated.suspicions
        ],
    }


def _depth(disease: str, everything: Labelled, answers: Answers) -> dict[str, Any]:
    """Of frames that are and were called the disease, with a subtype stated: how many are answered below it, and rightly."""
    deeper = right = asked = 0
    for node, found in zip(everything.nodes, answers.predictions, strict=True):
        if node is None or node.disease != disease or not node.parent or found.finer is None:
            continue
        if found.prediction != disease:
            continue
        asked += 1
        if found.finer.level > 1:
            deeper += 1
            right += node.path == found.finer.label or node.path.startswith(found.finer.label + "/")
    return {
        "frames": asked,
        "below": proportion(deeper, asked).model_dump(mode="json") if asked else None,
        "right_of_those": proportion(right, deeper).model_dump(mode="json") if deeper else None,
    }


def _suspected(
    share: NDArray[np.float64], path: str, threshold: float, paths: list[str], groups: NDArray[np.int64]
) -> dict[str, Any]:
    """Patients suspected by the mean over their frames, of those with the subtype and of those without."""
    with_it, without = by_patient(share, path, paths, groups)
    return {
        key: proportion(int((means >= threshold).sum()), len(means)).model_dump(mode="json")
        if len(means)
        else None
        for key, means in (("suspected_with", with_it), ("suspected_without", without))
    }


def finer_section(found: dict[str, Any]) -> str:
    """The figures as HTML."""
    if "reason" in found:
        return f"<p>Nothing measured: {escape(found['reason'])}.</p>"
    return "".join(_part(one) for one in found["branches"])


def _part(one: dict[str, Any]) -> str:
    depth = one["depth"]
    below = (
        f"{_share(depth['below'])} of {depth['frames']} frames called {one['disease']} are answered below it"
    )
    right = f"; {_share(depth['right_of_those'])} of those are right" if depth["right_of_those"] else ""
    alarms = "".join(
        f"<li>{escape(row['path'])} is suspected in {_share(row['suspected_with'])} of the patients with it, and in "
        f"{_share(row['suspected_without'])} of those with another subtype (mean over a patient's frames, from {row['threshold']:.2f}). "
        "The threshold is sensitive on purpose.</li>"
        for row in one["suspicions"]
    )
    return (
        f"<h3>{escape(one['disease'])} by {escape(one['system'])}</h3>"
        + table(
            ["subtype", "", "frames", "area under the ROC curve, by patient"],
            [
                [
                    row["path"],
                    row["name"],
                    str(row["frames"]),
                    f"{row['auroc']['value']:.3f} ({row['auroc']['low']:.3f} to {row['auroc']['high']:.3f})"
                    if row["auroc"]
                    else "fewer than two patients on a side",
                ]
                for row in one["nodes"]
            ],
        )
        + f"<ul><li>{below}{right}.</li>{alarms}</ul>"
        + f'<p class="note">{one["frames"]} frames of {one["groups"]} groups whose subtype the manifest states, against the other '
        "subtypes of the disease; where groups stand in for unknown patients, neighbouring frames may be one patient's.</p>"
    )


def _share(row: dict[str, Any] | None) -> str:
    if row is None:
        return "none"
    return f"{percent(row['value'])} ({percent(row['low'])} to {percent(row['high'])}, n {row['n']})"
