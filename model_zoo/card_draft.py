"""What a card says before anything is measured: names, training data, intended use."""

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from model_zoo.architecture import SmearNetwork
from model_zoo.card import (
    SCHEMA_VERSION,
    SEEN_DIGITS,
    Calibration,
    Card,
    FeatureBlock,
    OutOfDistribution,
    TrainingData,
)
from model_zoo.datasets.split import Split
from model_zoo.labels import LABELS
from model_zoo.store import FrameStore

INTENDED_USE: Final = (
    "Research and demonstration of decision support: a clinician reviews every answer. Not a medical device; "
    "not for diagnosis."
)

LICENCE: Final = "Apache-2.0"
LICENCE_OF_FRAMES: Final = (
    "for what hemolink adds; what may be done with the weights depends on the licences of the training frames, which their "
    "manifest names"
)


def draft_card(
    store: FrameStore,
    split: Split,
    notes: dict[str, Any],
    *,
    network: SmearNetwork,
    name: str,
    version: str,
    alpha: float,
    acceptance: float,
) -> Card:
    """Return a card with everything but figures and thresholds.

    Args:
        store: The frames that the run was split over.
        split: Of the run.
        notes: Of the run.
        network: Trained.
        name: Of the package.
        version: Of the package.
        alpha: Wanted miscoverage of the prediction sets.
        acceptance: Wanted share of further frames that count as inside.
    """
    sources = tuple(sorted({store.frames[index].source for index in split.train.tolist()}))
    classes = tuple(
        label for number, label in enumerate(LABELS) if (store.labels[split.train] == number).any()
    )
    placeholder = FeatureBlock(name="none", start=0, stop=1, residual_scale=1, limit=1)
    return Card(
        schema_version=SCHEMA_VERSION,
        name=name,
        version=version,
        architecture=network.architecture,
        labels=LABELS,
        preprocessing=network.preprocessing,
        calibration=Calibration(temperature=1, set_threshold=0, set_alpha=alpha, frames=0, patients=0),
        out_of_distribution=OutOfDistribution(threshold=1, acceptance=acceptance, blocks=(placeholder,)),
        training_data=TrainingData(
            statement=_statement(store, sources, classes),
            sources=sources,
            patients=len(np.unique(store.groups[split.train])),
            frames=len(split.train),
            seed=int(notes["seed"]),
            initial_weights=str(notes["initial_weights"]),
            classes=classes,
            seen=_seen(store, split),
        ),
        activation="gradient, torch only" if network.entry.head == "token" else "in the graph",
        simulated=store.simulated,
        intended_use=INTENDED_USE,
        licence=LICENCE if store.simulated else f"{LICENCE} {LICENCE_OF_FRAMES}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
    )


def _seen(store: FrameStore, split: Split) -> tuple[str, ...]:
    chosen = [*split.train.tolist(), *split.calibration.tolist()]
    hashes = {store.frames[index].sha256[:SEEN_DIGITS] for index in chosen}
    return tuple(sorted(hashes - {""}))


def _statement(store: FrameStore, sources: tuple[str, ...], classes: tuple[str, ...]) -> str:
    absent = [label for label in LABELS if label not in classes]
    rest = (
        f" Not trained: {', '.join(absent)}; it cannot name {'it' if len(absent) == 1 else 'them'}, and such a frame is referred or "
        "called something else."
        if absent
        else ""
    )
    if store.simulated:
        return f"Trained on SIMULATED smears only, never on a real one: for demonstration, not for diagnosis.{rest}"
    return f"Trained on frames of {', '.join(sources)}; not validated elsewhere: for research, not for diagnosis.{rest}"
