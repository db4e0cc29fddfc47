"""Do activation maps show what the network went by? Three checks, none of which says why.

Randomisation (Adebayo et al. 2018): a map that stays the same when the weights are shuffled shows the picture, and not the
network. Deletion and insertion (Petsiuk et al. 2018): hiding the places of most heat first must lower the probability faster
than hiding places at random, and showing them first must raise it faster. Share of heat inside nuclei: on simulated smears
the nuclei are known, and leukaemia shows in nuclei and white cells.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.package import ModelPackage
from model_zoo.predictor import Predictor, calibrated
from model_zoo.report.gallery import heat

STATEMENT: Final = "An activation map shows where, not why."
SAME: Final = 0.5
"""Mean rank correlation below which a map counts as changed; chosen before the first run."""
ORDERS: Final = 2
_SIDE: Final = 112
_STEPS: Final = 10

Say = Callable[[str, int, int], None]
Image = NDArray[np.uint8]


def explain(predictor: Predictor, images: Sequence[Image], *, seed: int, progress: Say) -> dict[str, Any]:
    """Run every check.

    Args:
        predictor: Started.
        images: Frames (H, W, 3) uint8 BGR for randomisation, deletion and insertion; as many simulated ones are drawn for the
            heat in nuclei.
        seed: Of shuffles, random orders and simulated patients.
        progress: Told what is going on.
    """
    inputs = [predictor.prepare(image) for image in images]
    try:
        randomised = randomisation(predictor.package, inputs, seed=seed, progress=progress)
    except ImportError:
        randomised = {"reason": "not done: torch is not installed here (pip install 'hemolink[train]')"}
    return {
        "statement": STATEMENT,
        "frames": len(images),
        "randomisation": randomised,
        "label_randomisation": {
            "reason": "not done: it takes a second training, on shuffled labels, and a package brings one network"
        },
        "deletion": deletion(predictor, inputs, seed=seed, progress=progress),
        "nucleus": nucleus_share(predictor, count=len(images), seed=seed, progress=progress),
    }


def randomisation(
    package: ModelPackage, inputs: Sequence[NDArray[np.float32]], *, seed: int, progress: Say
) -> dict[str, Any]:
    """Shuffle the weights of the head, and of the last stage, and compare the maps of the class first predicted.

    Returns:
        For each part shuffled: mean rank correlation of the maps before and after (of the raw evidence), of its absolute
        value, and mean structural similarity of the maps as they are shown, with intervals over frames. `other_frame` is
        the same between maps of different frames of one network: what unrelated maps share.
    """
    import torch  # noqa: PLC0415 - seconds to import, and absent from most workers

    from model_zoo.architecture import load_network  # noqa: PLC0415

    batch = torch.from_numpy(np.stack(inputs))
    rng = np.random.default_rng(seed)

    def maps(network: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            answers = [network(part) for part in batch.split(8)]
        logits, _, activation = (torch.cat(column).numpy() for column in zip(*answers, strict=True))
        return logits, activation

    logits, before = maps(load_network(package))
    classes = logits.argmax(axis=1)
    picked = np.arange(len(inputs))
    original = before[picked, classes]
    others = np.roll(original, 1, axis=0)
    rows = [{"shuffled": "nothing, the next frame's map instead", **_likeness(original, others, rng)}]
    for number, (name, parts) in enumerate(shuffled_parts(package.card.architecture).items(), start=1):
        network = load_network(package)
        shuffle(network, parts, rng)
        _, after = maps(network)
        rows.append({"shuffled": name, **_likeness(original, after[picked, classes], rng)})
        progress("Shuffling weights", number, 3)
    tested = rows[1:]
    return {
        "rows": rows,
        "limit": SAME,
        "changes": all(row["rank_correlation_interval"][1] < SAME for row in tested),
    }


def shuffled_parts(architecture: str) -> dict[str, tuple[str, ...]]:
    """Names of what is shuffled, and how the parameters of each begin."""
    last = {
        "resnet34": ("body.layer4.",),
        "densenet121": ("body.features.denseblock4.", "body.features.norm5."),
    }
    stage = last.get(architecture, ())
    parts: dict[str, tuple[str, ...]] = {"head": ("head.",)}
    if stage:
        parts["last stage"] = stage
        parts["last stage and head"] = (*stage, "head.")
    return parts


def shuffle(network: Any, prefixes: tuple[str, ...], rng: np.random.Generator) -> int:
    """Put the values of every parameter whose name begins so in random order, in place; returns how many parameters."""
    import torch  # noqa: PLC0415

    count = 0
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(prefixes):
                order = torch.from_numpy(rng.permutation(parameter.numel()))
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
                count += 1
    return count


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
        value, low, high = _mean(sign * (areas - chance), rng)
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
            value, low, high = _mean(inside - area, rng)
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


def _likeness(
    before: NDArray[np.float32], after: NDArray[np.float32], rng: np.random.Generator
) -> dict[str, Any]:
    """How much alike maps (N, h, w) of raw evidence are, frame by frame."""
    ranks = np.asarray([_rank_correlation(a, b) for a, b in zip(before, after, strict=True)])
    shown = np.asarray([_similarity(_shown(a), _shown(b)) for a, b in zip(before, after, strict=True)])
    value, low, high = _mean(ranks, rng)
    likeness, least, most = _mean(shown, rng)
    return {
        "rank_correlation": value,
        "rank_correlation_interval": [low, high],
        "absolute_rank_correlation": round(float(np.abs(ranks).mean()), 4),
        "structural_similarity": likeness,
        "structural_similarity_interval": [least, most],
    }


def _rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's; places of equal evidence do not occur in raw maps, but a constant map correlates with nothing."""
    one, other = (np.argsort(np.argsort(part.ravel())).astype(np.float64) for part in (first, second))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _shown(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positive evidence, scaled to 1 and drawn up, as a person sees it."""
    positive = np.maximum(evidence, 0)
    return heat((positive / max(float(positive.max()), 1e-12)).tolist(), (_SIDE, _SIDE))


def _similarity(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean structural similarity of two pictures in 0..1 (Wang et al. 2004), Gaussian windows of deviation 1.5."""

    def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5), np.float32)

    low, high = 0.01**2, 0.03**2
    one, other = smooth(first), smooth(second)
    covariance = smooth(first * second) - one * other
    spreads = smooth(first**2) - one**2 + smooth(second**2) - other**2
    index = (2 * one * other + low) * (2 * covariance + high) / ((one**2 + other**2 + low) * (spreads + high))
    return float(index.mean())


def _mean(values: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float, float]:
    """A mean with its 95 % bootstrap interval over frames."""
    draws = values[rng.integers(0, len(values), (2000, len(values)))].mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return round(float(values.mean()), 4), round(float(low), 4), round(float(high), 4)
