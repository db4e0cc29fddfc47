"""Do activation maps show what the network went by? Checks, none of which says why.

Randomisation of weights and of labels (Adebayo et al. 2018) is in `randomisation`. Deletion and insertion (Petsiuk et al. 2018):
hiding the places of most heat first must lower the probability faster than hiding places at random, and showing them first must
raise it faster. Share of heat inside nuclei: on simulated smears the nuclei are known, and leukaemia shows in nuclei and white
cells.
"""

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.predictor import Predictor, calibrated
from model_zoo.report.gallery import heat
from model_zoo.report.means import Say, mean_with_interval
from model_zoo.report.randomisation import label_randomisation, randomisation

STATEMENT: Final = "An activation map shows where, not why."
ORDERS: Final = 2
_STEPS: Final = 10

Image = NDArray[np.uint8]


def explain(
    predictor: Predictor,
    images: Sequence[Image],
    *,
    labelled: tuple[Sequence[Image], NDArray[np.int64]],
    seed: int,
    progress: Say,
) -> dict[str, Any]:
    """Run every check.

    Args:
        predictor: Started.
        images: Frames (H, W, 3) uint8 BGR for randomisation, deletion and insertion; as many simulated ones are drawn for the
            heat in nuclei.
        labelled: Frames and their class numbers, for the shuffled labels.
        seed: Of shuffles, random orders and simulated patients.
        progress: Told what is going on.
    """
    inputs = [predictor.prepare(image) for image in images]
    package = predictor.package
    known, labels = labelled
    try:
        randomised = randomisation(package, inputs, seed=seed, progress=progress)
        taught = label_randomisation(
            package, [predictor.prepare(image) for image in known], labels, seed=seed, progress=progress
        )
    except ImportError:
        randomised = taught = {
            "reason": "not done: torch is not installed here (pip install 'hemolink[train]')"
        }
    absent = {"reason": f"not done: {predictor.activation_absent}"} if predictor.activation_absent else None
    return {
        "statement": STATEMENT,
        "frames": len(images),
        "randomisation": randomised,
        "label_randomisation": taught,
        "deletion": absent or deletion(predictor, inputs, seed=seed, progress=progress),
        "nucleus": absent or nucleus_share(predictor, count=len(images), seed=seed, progress=progress),
    }


def deletion(
    predictor: Predictor, inputs: Sequence[NDArray[np.float32]], *, seed: int, progress: Say
) -> dict[str, Any]:
    """Hide, and show, the places of a frame by heat and at random; what is hidden is blurred beyond recognition.

    Returns:
        Mean curves of the predicted class's probability, areas below them, and the paired difference from random orders.
    """
    rng = np.random.default_rng(seed)
    curves: dict[str, list[NDArray[np.float64]]] = {
        key: [] for key in ("deletion", "deletion_random", "insertion", "insertion_random")
    }
    for number, prepared in enumerate(inputs, start=1):
        (answer,) = predictor.infer([prepared])
        label = predictor.package.labels.index(answer.prediction)
        grid = np.asarray(answer.activation)
        blurred = np.stack([cv2.GaussianBlur(plane, (0, 0), prepared.shape[1] / 12) for plane in prepared])
        ends = _chances(predictor, [prepared, blurred], label)
        by_heat = np.argsort(-(grid + 1e-9 * rng.random(grid.shape)).ravel())
        paths = [(prepared, blurred, by_heat), (blurred, prepared, by_heat)]
        paths += [(prepared, blurred, rng.permutation(grid.size)) for _ in range(ORDERS)]
        hidden, shown, *chance = [
            _chances(predictor, _between(start, end, order, grid.shape), label) for start, end, order in paths
        ]
        curves["deletion"].append(np.concatenate([ends[:1], hidden, ends[1:]]))
        curves["insertion"].append(np.concatenate([ends[1:], shown, ends[:1]]))
        # hiding places in one order, seen from its end, is showing them in the reverse order, as random as the first
        at_random = np.concatenate([ends[:1], np.mean(chance, axis=0), ends[1:]])
        curves["deletion_random"].append(at_random)
        curves["insertion_random"].append(at_random[::-1])
        progress("Hiding and showing places", number, len(inputs))
    result: dict[str, Any] = {
        "steps": [round(step / _STEPS, 4) for step in range(_STEPS + 1)],
        "curves": {
            key: [round(float(value), 4) for value in np.mean(rows, axis=0)] for key, rows in curves.items()
        },
        "random_orders": ORDERS,
    }
    for key, sign in (("deletion", -1), ("insertion", 1)):
        areas, chance = (np.asarray(curves[name]).mean(axis=1) for name in (key, f"{key}_random"))
        value, low, high = mean_with_interval(sign * (areas - chance), rng)
        result[key] = {
            "area": round(float(areas.mean()), 4),
            "random_area": round(float(chance.mean()), 4),
            "better_by": value,
            "interval": [low, high],
            "beats_random": low > 0,
        }
    return result


def _between(
    start: NDArray[np.float32], end: NDArray[np.float32], order: NDArray[np.int64], grid: tuple[int, ...]
) -> list[NDArray[np.float32]]:
    """The frames between `start` and `end`, while places of the one turn into those of the other, in order."""
    height, width = start.shape[1:]
    frames = []
    for step in range(1, _STEPS):
        changed = np.zeros(order.size, np.uint8)
        changed[order[: round(order.size * step / _STEPS)]] = 1
        mask = cv2.resize(changed.reshape(grid), (width, height), interpolation=cv2.INTER_NEAREST)
        frames.append(np.where(mask[None] > 0, end, start))
    return frames


def _chances(predictor: Predictor, frames: list[NDArray[np.float32]], label: int) -> NDArray[np.float64]:
    """Probability of a class in every frame."""
    logits = [
        predictor.run(frames[first : first + predictor.max_batch_size]).logits
        for first in range(0, len(frames), predictor.max_batch_size)
    ]
    temperature = predictor.package.card.calibration.temperature
    return calibrated(np.concatenate(logits), temperature)[:, label]


def nucleus_share(predictor: Predictor, *, count: int, seed: int, progress: Say) -> dict[str, Any]:
    """Share of the heat inside nuclei, and inside white cells, of simulated smears, one field a patient.

    The area of the mask is the share that heat without any aim would have.
    """
    from smear_simulator import Microscope, population  # noqa: PLC0415

    shares: dict[str, list[tuple[float, float]]] = {"nucleus": [], "white cell": []}
    without_heat = without_cells = 0
    peaks = []
    for number, patient in enumerate(population(count, seed=seed), start=1):
        field = Microscope(patient, seed=seed + number).capture()
        (answer,) = predictor.infer([predictor.prepare(field.image)])
        strength = heat(answer.activation, field.image.shape[:2])
        progress("Looking for heat in nuclei", number, count)
        if not field.truth.nucleus_mask.any():
            without_cells += 1
        elif not strength.any():
            without_heat += 1
        else:
            for name, mask in (
                ("nucleus", field.truth.nucleus_mask > 0),
                ("white cell", field.truth.white_cell_mask > 0),
            ):
                shares[name].append((float(strength[mask].sum() / strength.sum()), float(mask.mean())))
            peak = np.unravel_index(int(strength.argmax()), strength.shape)
            peaks.append(bool(field.truth.white_cell_mask[peak]))
    rng = np.random.default_rng(seed)
    rows = []
    for name, pairs in shares.items():
        if pairs:
            inside, area = np.asarray(pairs).T
            value, low, high = mean_with_interval(inside - area, rng)
            rows.append(
                {
                    "mask": name,
                    "heat_inside": round(float(inside.mean()), 4),
                    "area": round(float(area.mean()), 4),
                    "times_area": round(float(inside.mean() / area.mean()), 3),
                    "more_than_area": value,
                    "interval": [low, high],
                    "aims": low > 0,
                }
            )
    return {
        "simulated": True,
        "fields": len(peaks),
        "without_white_cells": without_cells,
        "without_heat": without_heat,
        "peak_in_white_cell": round(float(np.mean(peaks)), 4) if peaks else None,
        "rows": rows,
    }
