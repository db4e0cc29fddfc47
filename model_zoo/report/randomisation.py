"""Do activation maps follow the network, and what it was taught? Weights are shuffled, and labels (Adebayo et al. 2018).

Weights: the maps of the class first predicted, before and after parts of the network were shuffled, from the head downwards; a
map that stays the same shows the picture, and not the network. A part counts only if nothing of the layers before it reaches the
head past it: in a DenseNet the third transition's channels stand beside the last block's in the map that the head sees (on the
shipped package they make up half of the map's deviation), so that shuffling the block alone leaves much of the map as it was. It
is shown, and the part that counts is the block with that transition.

Labels: a head that was taught shuffled labels on the same features fits them as it would the true ones, and its maps must not be
those of a head that was taught the true ones. The body stays as it is: a whole second training would be the stricter check.
"""

import copy
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.package import ModelPackage
from model_zoo.report.gallery import heat
from model_zoo.report.means import Say, mean_with_interval

SAME: Final = 0.5
"""Mean rank correlation below which a map counts as changed; chosen before the first run."""
REPEATS: Final = 3
PENALTY: Final = 1e-4
"""Of the heads that are taught labels: weak, so that shuffled ones are learnt by heart."""
LEARNT: Final = 0.9
"""Share of shuffled labels that a head must repeat before its maps say anything."""
_SIDE: Final = 112

_BYPASS: Final[dict[str, tuple[str, ...]]] = {"densenet121": ("features.transition3",)}
"""Parts whose output reaches the head past the last stage."""


def randomisation(
    package: ModelPackage, inputs: Sequence[NDArray[np.float32]], *, seed: int, progress: Say
) -> dict[str, Any]:
    """Shuffle the head, the last stage, both, and all weights, and compare the maps of the class first predicted.

    Returns:
        For each part shuffled, over several shuffles: mean rank correlation of the maps before and after (of the raw
        evidence), of its absolute value, and mean structural similarity of the maps as they are shown, with intervals over frames;
        `counts` is whether the verdict rests on it. The first row is the same between maps of different frames of one network:
        what unrelated maps share.
    """
    import torch  # noqa: PLC0415 - seconds to import, and absent from most workers

    from model_zoo.architecture import load_network  # noqa: PLC0415

    batch = torch.from_numpy(np.stack(inputs))
    rng = np.random.default_rng(seed)
    network = load_network(package)
    logits, before = maps(network, batch)
    classes = logits.argmax(axis=1)
    picked = np.arange(len(inputs))
    original = before[picked, classes]
    others = np.roll(original, 1, axis=0)
    rows = [
        {
            "shuffled": "nothing, the next frame's map instead",
            "counts": False,
            **likeness([original], [others], rng),
        }
    ]
    parts = shuffled_parts(package.card.architecture)
    for number, (name, (prefixes, counts)) in enumerate(parts.items(), start=1):
        after = []
        for _ in range(REPEATS):
            shuffled = copy.deepcopy(network)
            shuffle(shuffled, prefixes, rng)
            after.append(maps(shuffled, batch)[1][picked, classes])
        rows.append({"shuffled": name, "counts": counts, **likeness([original] * REPEATS, after, rng)})
        progress("Shuffling weights", number, len(parts))
    return {
        "rows": rows,
        "limit": SAME,
        "shuffles": REPEATS,
        "changes": all(row["rank_correlation_interval"][1] < SAME for row in rows if row["counts"]),
    }


def shuffled_parts(architecture: str) -> dict[str, tuple[tuple[str, ...], bool]]:
    """What is shuffled: by name, how its parameters begin, and whether the verdict rests on it."""
    from model_zoo.architecture import ARCHITECTURES  # noqa: PLC0415 - torch takes seconds

    own = ARCHITECTURES[architecture].last_stage
    past = _BYPASS.get(architecture, ())
    stage = tuple(f"body.{name}." for name in own)
    whole = (*stage, *(f"body.{name}." for name in past))
    parts: dict[str, tuple[tuple[str, ...], bool]] = {"head": (("head.",), True)}
    if past:
        parts["last block alone, past which channels reach the head"] = (stage, False)
    parts["last stage"] = (whole, True)
    parts["last stage and head"] = ((*whole, "head."), True)
    parts["all weights"] = (("",), True)
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


def maps(network: Any, batch: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (N, C) and activation maps (N, C, h, w), by the gradient where there is no closed form."""
    import torch  # noqa: PLC0415

    from model_zoo.gradient import gradient_maps  # noqa: PLC0415

    found = []
    for part in batch.split(8):
        with torch.no_grad():
            logits, _, activation = network(part)
        if network.entry.head == "token":
            activation = gradient_maps(network, part)
        found.append((logits.numpy(), activation.detach().numpy()))
    first, second = zip(*found, strict=True)
    return np.concatenate(first), np.concatenate(second)


def label_randomisation(
    package: ModelPackage,
    inputs: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    *,
    seed: int,
    progress: Say,
) -> dict[str, Any]:
    """Teach the head true and shuffled labels, and compare the maps of the true class.

    Args:
        package: Whose body gives the features.
        inputs: Labelled frames (3, H, W), prepared.
        labels: (N,) class numbers.
        seed: Of the shuffles.
        progress: Told what is going on.

    Returns:
        Rows of likeness between the maps of the class that the frame is labelled: of the package's head and one taught the true
        labels, and of the latter and those taught shuffled ones; and how many of the labels each head repeats.
    """
    import torch  # noqa: PLC0415

    from model_zoo.architecture import load_network  # noqa: PLC0415

    present = np.unique(labels)
    if len(present) < 2:  # noqa: PLR2004
        return {"reason": "not done: it takes frames of two classes or more, each with its label"}
    batch = torch.from_numpy(np.stack(inputs))
    rng = np.random.default_rng(seed)
    network = load_network(package)
    with torch.no_grad():
        pooled = np.concatenate([network.train_outputs(part)[2].numpy() for part in batch.split(8)])
    picked = np.arange(len(inputs))

    def taught(told: NDArray[np.int64]) -> tuple[NDArray[np.float32], float]:
        own = copy.deepcopy(network)
        share = _teach(own, pooled, told, present)
        return maps(own, batch)[1][picked, labels], share

    shipped = maps(network, batch)[1][picked, labels]
    true, fit = taught(labels)
    progress("Shuffling labels", 1, REPEATS + 1)
    after, fits = [], []
    for number in range(REPEATS):
        found, share = taught(rng.permutation(labels))
        after.append(found)
        fits.append(share)
        progress("Shuffling labels", number + 2, REPEATS + 1)
    changed = likeness([true] * REPEATS, after, rng)
    return {
        "method": "the head alone taught anew on the frames' own features; the body stays",
        "frames": len(inputs),
        "shuffles": REPEATS,
        "rows": [
            {
                "compared": "the package's head and one taught the true labels",
                **likeness([shipped], [true], rng),
            },
            {"compared": "heads taught the true and the shuffled labels", **changed},
        ],
        "repeats_true": round(fit, 4),
        "repeats_shuffled": round(float(np.mean(fits)), 4),
        "limit": SAME,
        "learnt": bool(np.mean(fits) >= LEARNT),
        "changes": bool(np.mean(fits) >= LEARNT and changed["rank_correlation_interval"][1] < SAME),
    }


def balanced(labels: NDArray[np.int64], *, most: int, seed: int) -> NDArray[np.int64]:
    """Indices of labelled frames, the classes in balance as far as they go: (N,) with N no more than `most`.

    Args:
        labels: (N,) class numbers, -1 where none is known.
        most: How many.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    queues = [
        rng.permutation(np.flatnonzero(labels == number)).tolist()
        for number in np.unique(labels[labels >= 0])
    ]
    chosen: list[int] = []
    while len(chosen) < most and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    return np.sort(np.asarray(chosen[:most], np.int64))


def _teach(
    network: Any, pooled: NDArray[np.float32], told: NDArray[np.int64], present: NDArray[np.int64]
) -> float:
    """Replace the head by one that was taught labels; returns the share of them that it repeats."""
    import torch  # noqa: PLC0415

    from model_zoo.tree.head import Basis, fit_linear  # noqa: PLC0415 - scipy

    allowed = told[:, None] == present[None]
    basis = Basis.of(pooled)
    fitted = basis.back(fit_linear(basis.inputs, allowed, np.ones(len(told)), penalty=PENALTY))
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(-1e4)
        network.head.weight[present] = torch.from_numpy(fitted.weight)
        network.head.bias[present] = torch.from_numpy(fitted.bias)
    return float((fitted.scores(pooled).argmax(axis=1) == np.searchsorted(present, told)).mean())


def likeness(
    before: Sequence[NDArray[np.float32]], after: Sequence[NDArray[np.float32]], rng: np.random.Generator
) -> dict[str, Any]:
    """How much alike maps (N, h, w) of raw evidence are, frame by frame, in the mean over repeats."""
    pairs = list(zip(before, after, strict=True))
    ranks = np.asarray([[_rank_correlation(a, b) for a, b in zip(x, y, strict=True)] for x, y in pairs])
    shown = np.asarray(
        [[_similarity(_shown(a), _shown(b)) for a, b in zip(x, y, strict=True)] for x, y in pairs]
    )
    value, low, high = mean_with_interval(ranks.mean(axis=0), rng)
    similar, least, most = mean_with_interval(shown.mean(axis=0), rng)
    return {
        "rank_correlation": value,
        "rank_correlation_interval": [low, high],
        "absolute_rank_correlation": round(float(np.abs(ranks).mean()), 4),
        "structural_similarity": similar,
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
