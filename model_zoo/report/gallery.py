"""Frames to look at, with the activation map of the predicted class drawn over each."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.report.answers import Answers


def choose(answers: Answers, *, count: int, seed: int) -> dict[str, list[int]]:
    """Indices of frames worth a look.

    Args:
        answers: Of all frames.
        count: Most of each kind.
        seed: Of what is drawn at random.

    Returns:
        `worst errors` (reported ones first, then by the probability of the wrong class), `referred` and `random`, the last
        two drawn evenly over sources.
    """
    rng = np.random.default_rng(seed)
    wrong = np.flatnonzero(answers.labelled & (answers.predicted != answers.labels))
    reported, confidence = answers.reported, answers.probabilities.max(axis=1)
    worst = sorted(wrong.tolist(), key=lambda index: (not reported[index], -confidence[index]))
    return {
        "worst errors": worst[:count],
        "referred": _spread(np.flatnonzero(~reported), answers.sources, count, rng),
        "random": _spread(np.arange(len(answers)), answers.sources, count, rng),
    }


def _spread(
    where: NDArray[np.int64], sources: Sequence[str], count: int, rng: np.random.Generator
) -> list[int]:
    """Some of the indices, one source after another."""
    queues: dict[str, list[int]] = {}
    for index in rng.permutation(where).tolist():
        queues.setdefault(sources[index], []).append(index)
    chosen: list[int] = []
    while len(chosen) < count and any(queues.values()):
        for name in sorted(queues):
            if queues[name] and len(chosen) < count:
                chosen.append(queues[name].pop())
    return chosen


def heat(activation: Sequence[Sequence[float]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """An activation map in 0..1, drawn up to a frame's height and width."""
    grid = np.asarray(activation, np.float32)
    return np.asarray(
        np.clip(cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), 0, 1), np.float32
    )


def overlaid(image: NDArray[np.uint8], activation: Sequence[Sequence[float]]) -> NDArray[np.uint8]:
    """A frame beside itself with the map over it, each 200 pixels high: (200, W, 3) uint8 BGR."""
    width = max(1, round(image.shape[1] * 200 / image.shape[0]))
    small = cv2.resize(image, (width, 200), interpolation=cv2.INTER_AREA)
    strength = heat(activation, (200, width))
    colour = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float32)
    share = 0.6 * strength[:, :, None]
    over = np.clip((1 - share) * small + share * colour, 0, 255).astype(np.uint8)
    return np.concatenate([small, np.full((200, 4, 3), 255, np.uint8), over], axis=1)


def caption(answers: Answers, index: int) -> dict[str, Any]:
    """What stands below a frame."""
    answer, row = answers.predictions[index], answers.rows[index]
    return {
        "file": row.path.name,
        "source": answers.sources[index],
        "truth": row.label or "not stated",
        "prediction": answer.prediction,
        "probability": round(max(answer.probabilities), 4),
        "decision": answer.decision,
        "reasons": [reason.split(":", 1)[0] for reason in answer.reasons],
        "empty_map": not any(value > 0 for line in answer.activation for value in line),
    }
