"""What the figures of a report can show, and what they cannot, in sentences with sample sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.audit.power import MISS_RATE, groups_needed
from model_zoo.expectation import further_set
from model_zoo.report.answers import Answers


def sources_and_classes(answers: Answers) -> dict[str, Any]:
    """Whether the source tells the class, from labelled frames.

    `class_equals_source` holds where there are two sources or more and every one has a single class.
    """
    sources = np.asarray(answers.sources)
    names = sorted(set(sources.tolist()))
    counts = {
        name: {
            label: int(((sources == name) & (answers.labels == number)).sum())
            for number, label in enumerate(answers.classes)
            if ((sources == name) & (answers.labels == number)).any()
        }
        for name in names
    }
    single = [name for name in names if len(counts[name]) == 1]
    by_label = {
        label: [name for name in names if label in counts[name]]
        for label in answers.classes
        if any(label in counts[name] for name in names)
    }
    known = sum(max(row.values()) for row in counts.values()) / len(answers)
    equals = len(names) > 1 and len(single) == len(names)
    if equals:
        said = (
            f"CLASS EQUALS SOURCE: each of the {len(names)} sources has one class only. Knowing the laboratory is knowing the "
            "answer, so that these figures measure laboratories and cameras as much as disease."
        )
    elif len(names) > 1 and single:
        said = (
            f"CLASS LARGELY EQUALS SOURCE: {', '.join(single)} {'has' if len(single) == 1 else 'have'} one class only. Answering the largest class of a frame's "
            f"source is right in {100 * known:.1f} % without a look at the frame; beyond that, these figures measure "
            "laboratories and cameras as much as disease."
        )
    elif len(names) == 1:
        said = f"All labelled frames come from one source ({names[0]}): how the package does elsewhere is not measured here."
    else:
        said = f"Every source has several classes; knowing the source alone is right in {100 * known:.1f} %."
    return {
        "class_equals_source": equals,
        "single_class_sources": single,
        "counts": counts,
        "sources_by_class": by_label,
        "source_only_accuracy": round(known, 5),
        "statement": said,
    }


def limits(
    answers: Answers, tables: dict[str, Any], *, model_simulated: bool, trained: Sequence[str]
) -> list[str]:
    """What the report cannot show.

    Args:
        answers: Of all frames.
        tables: The report so far: `per_class` and `sources`.
        model_simulated: Whether the package was trained on simulated smears.
        trained: The classes that it was trained on.
    """
    labelled = answers.taken(answers.labelled)
    said = []
    if labelled.simulated.all():
        said.append(
            "SIMULATED: these frames were drawn by a program; nothing here says how the package does on real smears."
        )
    elif labelled.simulated.any():
        said.append(
            "Some frames are SIMULATED: figures over all frames mix drawn and real ones; look at them by source."
        )
    elif model_simulated:
        said.append(
            "The package has seen SIMULATED smears only, and these frames are real: the figures show what it does where it was "
            "never meant to report anything. The hope is that it refers."
        )
    by_label = tables["sources"]["sources_by_class"]
    for row in tables["per_class"]:
        if row["class"] in trained:
            said += _of_class(row, by_label.get(row["class"], []))
        elif row["frames"]:
            said.append(
                f"{row['class']}: {row['frames']} frames of a class that the package was never trained on. It cannot name it: each of them is "
                "referred, or reported as something else and counted as wrong."
            )
        else:
            said.append(
                f"{row['class']}: the package was never trained on it, and there is no frame of it here."
            )
    unlabelled = len(answers) - len(labelled)
    if unlabelled:
        said.append(
            f"{unlabelled} frames have no label: what is reported of them can be counted, whether it is right cannot."
        )
    said += [
        f"To show a miss rate of at most {100 * MISS_RATE:.0f} % takes {groups_needed()} patients of a class, all found.",
        (
            "Frames of one group are not independent. Wilson's intervals count frames as if they were, and are the narrowest that "
            "could be claimed; those by drawing groups again allow for it."
        ),
        (
            "A package does not list the images that it was trained on: that none of these was among them, nor another of the same "
            "patient, is for whoever made the manifest to know."
        ),
        (
            "The labels are taken as the manifest has them. Age, sex, treatment and severity are not in it, so nothing is said of "
            "fairness between groups of people."
        ),
        "Predictive values hold for the shares of classes in these frames, and not for those of a clinic.",
    ]
    return said


def expectation(labelled: Answers, *, simulated: bool) -> str:
    """What to expect of further frames, of new patients, from the same sources in the same shares.

    The ranges are for a further set of as many groups, so that whoever has one may compare.
    """
    wrong, reported = labelled.predicted != labelled.labels, labelled.reported

    def said(hits: NDArray[np.bool_]) -> str:
        found = further_set(hits, labelled.groups)
        return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"

    mark = "SIMULATED: " if simulated else ""
    return (
        f"{mark}Expected on further frames of new patients from {', '.join(sorted(set(labelled.sources)))}, in the same shares: "
        f"wrong if every frame were answered, {said(wrong)}; referred, {said(~reported)}; reported and wrong, "
        f"{said(reported & wrong)}; the ranges are for a further set of as many groups ({len(np.unique(labelled.groups))}). Of other "
        "sources nothing is promised."
    )


def _of_class(row: dict[str, Any], sources: Sequence[str]) -> list[str]:
    name, groups = row["class"], row["groups"]
    if not row["frames"]:
        return [
            f"{name}: no frame, so that its sensitivity is unknown; calls of {name} can only be wrong here."
        ]
    found = row["sensitivity"]
    said = f"{name}: {row['frames']} frames of {groups} group(s) from {len(sources)} source(s). "
    if found["hits"] == found["frames"]:
        bound = 1 - 0.05 ** (1 / groups)
        said += f"No error was seen; {groups} group(s) without one still allow an error rate of {100 * bound:.1f} %."
    else:
        low, high = found["bootstrap"]
        said += f"Its sensitivity is known to lie between {100 * low:.1f} and {100 * high:.1f} %, for such frames."
    if len(sources) == 1:
        said += " How it is recognised elsewhere cannot be measured here."
    return [said]
