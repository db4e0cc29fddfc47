"""A whole report: answers, tables, curves, checks and statements, as one JSON document, and the frames to look at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.datasets.manifest import load_image
from model_zoo.evaluation import measure
from model_zoo.predictor import Predictor
from model_zoo.report import curves, guard, tables
from model_zoo.report.answers import Answers, answer, read_rows
from model_zoo.report.explanation import explain
from model_zoo.report.finer import finer_figures
from model_zoo.report.gallery import caption, choose, overlaid
from model_zoo.report.randomisation import balanced
from model_zoo.report.resampling import Resampling, as_row
from model_zoo.report.rivals import rivals
from model_zoo.report.seen import unseen
from model_zoo.report.statements import expectation, limits, sources_and_classes

SCHEMA: Final = "hemolink.evaluation/1"
GALLERY: Final = 6
LABELLED: Final = 120
"""Labelled frames on which a head is taught shuffled labels, at most."""
STRANGE: Final = 40
Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Shown:
    """A frame of the gallery: its kind, what stands below it, and itself with the map over it."""

    kind: str
    caption: dict[str, Any]
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        document: As report.json holds it.
        frames: One row a frame, as frames.csv holds it.
        gallery: Frames to look at.
    """

    document: dict[str, Any]
    frames: list[dict[str, Any]]
    gallery: list[Shown]


def evaluate_manifest(
    predictor: Predictor,
    manifest: Path,
    *,
    explanations: int,
    strange: int = STRANGE,
    seed: int,
    progress: Say,
) -> Report:
    """Evaluate a started predictor on a manifest.

    Args:
        predictor: Started.
        manifest: A manifest.csv, or its folder.
        explanations: Frames on which the activation maps are checked; 0 leaves the checks out.
        strange: Frames to make blank, blurred and wrongly magnified ones of; 0 leaves them out.
        seed: Of every choice.
        progress: Told what is going on, how much is done, and how much there is.

    Raises:
        DatasetError: If the manifest or a frame cannot be used.
    """
    package = predictor.package
    rows, sites = read_rows(manifest, package.labels)
    left = unseen(rows, package.card)
    rows, sites = [rows[index] for index in left.kept], [sites[index] for index in left.kept]
    everything = answer(predictor, rows, sites, progress=progress)
    labelled = everything.taken(everything.labelled)
    again = Resampling.of(labelled.groups, seed=seed)
    card = package.card
    simulated = bool(labelled.simulated.all())
    metrics = measure(
        labelled.outputs,
        labelled.labels,
        labelled.groups,
        card=card,
        detector=predictor.detector,
        engine=predictor.engine_name,
        simulated=simulated,
    )
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "model": {
            "name": package.name,
            "version": package.version,
            "architecture": card.architecture,
            "weights_sha256": package.weights_sha256,
            "engine": predictor.engine_name,
            "simulated": card.simulated,
            "intended_use": card.intended_use,
            "training_data": card.training_data.model_dump(mode="json", exclude={"seen"}),
        },
        "seed": seed,
        "simulated": simulated,
        "partly_simulated": bool(everything.simulated.any()) and not bool(everything.simulated.all()),
        "frames": len(everything),
        "labelled": len(labelled),
        "groups": len(np.unique(everything.groups)),
        "labelled_groups": again.groups,
        "classes": list(card.labels),
        "confusion": [list(row) for row in metrics.confusion],
        "macro_accuracy": metrics.macro_accuracy.model_dump(mode="json"),
        "sources": sources_and_classes(labelled),
        "outcomes": tables.outcomes(labelled, again),
        "per_class": tables.by_class(labelled, again),
        "curves": curves.one_against_rest(labelled.labels, labelled.probabilities, card.labels, again),
        "reliability": curves.reliability(labelled.labels, labelled.probabilities, again, seed=seed),
        "risk_coverage": curves.risk_coverage(
            labelled.labels, labelled.probabilities, labelled.reported, again
        ),
        "prediction_sets": tables.prediction_sets(labelled, again, card),
        "reasons": tables.reasons(everything),
        "per_source": tables.by_place(everything, everything.sources, kind="source", seed=seed),
        "per_site": tables.by_place(everything, sites, kind="site", seed=seed) if any(sites) else [],
        "out_of_distribution": _distances(everything, card.out_of_distribution.threshold),
        "thresholds": guard.thresholds(card),
        "guard": guard.trial(
            predictor,
            everything,
            statement=metrics.statement,
            strange=strange,
            seed=seed,
            progress=progress,
        ),
        "rivals": rivals(labelled, again, preprocessing=card.preprocessing, seed=seed, progress=progress),
        "card": {
            "macro_accuracy": as_row(card.metrics.macro_accuracy),
            "baseline_macro_accuracy": as_row(card.metrics.baseline_macro_accuracy)
            if card.metrics.baseline_macro_accuracy
            else None,
            "statement": card.metrics.statement,
        }
        if card.metrics
        else None,
        "metrics": metrics.model_dump(mode="json"),
        "finer": finer_figures(package, labelled),
        "explanations": _explanations(predictor, everything, explanations, seed=seed, progress=progress),
    }
    document["promised"] = guard.promised(card, document["outcomes"], labelled)
    document["expectation"] = expectation(labelled, simulated=simulated)
    document["limits"] = limits(
        everything, document, model_simulated=card.simulated, trained=document["thresholds"]["trained"]
    )
    document["left_out"] = {"seen": left.seen, "kin": left.kin, "statement": left.statement}
    if left.statement:
        document["limits"] = [left.statement, *document["limits"]]
    return Report(document, _frames(everything), _gallery(everything, seed=seed))


def _distances(answers: Answers, threshold: float) -> dict[str, Any]:
    sources = np.asarray(answers.sources)
    scores = np.asarray([found.ood_score for found in answers.predictions])
    return {
        "threshold": threshold,
        "scores": {
            name: [round(float(score), 4) for score in scores[sources == name]]
            for name in sorted(set(sources.tolist()))
        },
    }


def _explanations(
    predictor: Predictor, answers: Answers, count: int, *, seed: int, progress: Say
) -> dict[str, Any] | None:
    if not count:
        return None
    chosen = choose(answers, count=count, seed=seed + 1)["random"]
    images = [load_image(answers.rows[index]) for index in chosen]
    known = balanced(answers.labels, most=LABELLED, seed=seed)
    labelled = [load_image(answers.rows[index]) for index in known.tolist()], answers.labels[known]
    return explain(predictor, images, labelled=labelled, seed=seed, progress=progress)


def _gallery(answers: Answers, *, seed: int) -> list[Shown]:
    return [
        Shown(
            kind,
            caption(answers, index),
            overlaid(load_image(answers.rows[index]), answers.predictions[index].activation),
        )
        for kind, indices in choose(answers, count=GALLERY, seed=seed).items()
        for index in indices
    ]


def _frames(answers: Answers) -> list[dict[str, Any]]:
    return [
        {
            "path": str(row.path),
            "source": answers.sources[index],
            "site": answers.sites[index],
            "group": int(answers.groups[index]),
            "truth": row.label,
            "prediction": found.prediction,
            **{
                f"p_{name}": round(p, 6) for name, p in zip(answers.classes, found.probabilities, strict=True)
            },
            "prediction_set": " ".join(found.prediction_set),
            "decision": found.decision,
            "reasons": " ".join(reason.split(":", 1)[0] for reason in found.reasons),
            "ood_score": round(found.ood_score, 5),
        }
        for index, (row, found) in enumerate(zip(answers.rows, answers.predictions, strict=True))
    ]
