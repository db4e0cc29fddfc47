"""What a report says of a package's guard: its thresholds, what it promised, and what it did on these frames."""

from typing import Any, Final

import numpy as np

from model_zoo.card import Card, Estimate, Expected
from model_zoo.guard import Evidence, Guard
from model_zoo.guard_check import Outsiders, check_guard
from model_zoo.guard_trial import FEWEST, Say, imitations
from model_zoo.predictor import Predictor
from model_zoo.report.answers import Answers

SLACK: Final = 1e-9


def thresholds(card: Card) -> dict[str, Any]:
    """Every limit that the package obeys, and where it comes from."""
    calibration, outside = card.calibration, card.out_of_distribution
    return {
        "temperature": calibration.temperature,
        "sets": {
            "target": 1 - calibration.set_alpha,
            "method": calibration.set_method,
            "statement": calibration.set_statement,
            "by_class": {
                name: calibration.threshold_of(number) if card.trained[number] else None
                for number, name in enumerate(card.labels)
            },
            "frames": calibration.frames,
            "groups": calibration.patients,
        },
        "acute": card.acute.model_dump(mode="json") if card.acute else None,
        "detector": {
            "threshold": outside.threshold,
            "acceptance": outside.acceptance,
            "method": outside.method,
            "groups": outside.groups,
            "statement": outside.statement,
            "clusters": list(outside.clusters),
            "blocks": [
                {"name": b.name, "features": b.stop - b.start, "limit": b.limit} for b in outside.blocks
            ],
        },
        "trained": [name for name, known in zip(card.labels, card.trained, strict=True) if known],
        "measured": card.guard.model_dump(mode="json") if card.guard else None,
    }


def trial(
    predictor: Predictor, answers: Answers, *, statement: str, strange: int, seed: int, progress: Say
) -> dict[str, Any] | None:
    """The guard on these frames: those of the package's own sources are inside, all others outside.

    None where fewer than two groups of labelled frames come from the package's own sources.
    """
    card = predictor.package.card
    own = set(card.training_data.sources)
    sources = np.asarray(answers.sources)
    inside = answers.labelled & np.isin(sources, sorted(own))
    if len(np.unique(answers.groups[inside])) < FEWEST:
        return None
    part = answers.taken(inside)
    made = (
        imitations(predictor, part.rows, part.groups, strange, seed=seed, progress=progress)
        if strange
        else []
    )
    others = []
    for name in sorted(set(sources[~inside].tolist())):
        rest = answers.taken(~inside & (sources == name))
        kind = f"frames of {name}" + (" (own source, no label)" if name in own else "")
        others.append(Outsiders(kind, rest.outputs, rest.labels, rest.groups))
    found = check_guard(
        Evidence(part.outputs, part.labels, part.groups, part.sources),
        [*made, *others],
        Guard(card.rules, predictor.detector),
        engine=predictor.engine_name,
        statement=statement,
        seed=seed,
    )
    return found.model_dump(mode="json")


def promised(card: Card, outcomes: dict[str, Any], answers: Answers) -> dict[str, Any] | None:
    """What the card expects, beside what was found here; None where it expects nothing."""
    if card.expectation is None:
        return None
    own = set(card.training_data.sources)
    here = set(answers.sources)
    rows = []
    for expected in (card.expectation.inside, card.expectation.unseen):
        if expected is None:
            continue
        applies = here <= own if expected.scope == "same sources, new patients" else not here & own
        rows.append(
            {
                **expected.model_dump(mode="json"),
                "applies": applies,
                "found": _found(expected, outcomes) if applies else None,
            }
        )
    return {
        "rows": rows,
        "left_out": [row.model_dump(mode="json") for row in card.expectation.left_out],
        "mixed": bool(here & own) and bool(here - own),
    }


def _found(expected: Expected, outcomes: dict[str, Any]) -> dict[str, Any]:
    """Each figure found with its interval, and whether it lies in the range that was expected.

    The range is for a set of as many groups as it was made from. Fewer groups scatter more: a figure outside the range whose own
    interval reaches into it is no contradiction.
    """

    def one(row: dict[str, Any], range_: Estimate, *, inverse: bool = False) -> dict[str, Any]:
        value, (low, high) = row["value"], row["bootstrap"]
        if value is None:
            return {"value": None, "interval": None, "verdict": None}
        if inverse:
            value, low, high = 1 - value, 1 - high, 1 - low
        if range_.low - SLACK <= value <= range_.high + SLACK:
            verdict = "as expected"
        elif low <= range_.high and high >= range_.low:
            verdict = "too few groups to tell"
        else:
            verdict = "NOT as expected"
        return {"value": round(value, 5), "interval": [round(low, 5), round(high, 5)], "verdict": verdict}

    return {
        "reported_wrong": one(outcomes["reported_wrong"], expected.reported_wrong),
        "error_among_reported": one(
            outcomes["right_among_reported"], expected.error_among_reported, inverse=True
        ),
        "referred": one(outcomes["referred"], expected.referred),
    }
