"""What a report says of a package's guard: its thresholds, what it promised, and what it did on these frames."""

from typing import Any

import numpy as np

from model_zoo.card import Card, Estimate, Expected
from model_zoo.guard import Evidence, Guard
from model_zoo.guard_check import Outsiders, check_guard
from model_zoo.guard_trial import FEWEST, Say, imitations
from model_zoo.predictor import Predictor
from model_zoo.report.answers import Answers


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
    """Each figure found, and whether it lies in the range that was expected."""

    def one(value: float | None, range_: Estimate) -> dict[str, Any]:
        return {
            "value": value,
            "inside": None if value is None else bool(range_.low - 1e-9 <= value <= range_.high + 1e-9),
        }

    right = outcomes["right_among_reported"]["value"]
    return {
        "reported_wrong": one(outcomes["reported_wrong"]["value"], expected.reported_wrong),
        "error_among_reported": one(None if right is None else 1 - right, expected.error_among_reported),
        "referred": one(outcomes["referred"]["value"], expected.referred),
    }
