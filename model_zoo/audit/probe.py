"""Does the source show? Probes that know no disease, the floor that knowing the source gives, and leaving one out."""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.audit.figure import accuracy, as_dict, macro_recall, mean_auc
from model_zoo.audit.paths import folds_by_group
from model_zoo.audit.sample import Sample
from model_zoo.card import Estimate
from model_zoo.compared.methods import Factory
from model_zoo.intervals import wilson
from model_zoo.labels import LABELS

METHOD: Final = "ridge classifier, AUC by five folds over groups"
CHANCE: Final = 0.5
PENALTY: Final = 0.05
"""Of the ridge, in units of a standardised feature's variance."""
REPEATS: Final = 3
PERMUTATIONS: Final = 99
FIRES: Final = 0.01
"""The probe fires where no more than this share of random dealings does as well: one false alarm in a hundred."""
BACKGROUND: Final = "background"
MIN_GROUPS: Final = 5
"""Groups that a source or class needs on either side of a probe."""

Described = Mapping[str, NDArray[np.float32]]
"""Features of every image of the sample, by view."""


def source_probe(
    sample: Sample, described: Described, *, seed: int, progress: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Try to tell where images come from, by each view.

    With two sources or more the probe tells sources apart. With one, and inside every source that has two classes, it
    tries to tell classes apart by what should not show them: a background that knows the class comes from another slide
    preparation, another camera or another laboratory.

    Returns:
        The figure by background alone as the head; every target, pair and view in `rows`; `fires` if the head's interval
        lies above chance.
    """
    rows: list[dict[str, Any]] = []
    for target, pair, chosen, truth in targets(sample):
        for view, features in described.items():
            figure = _auc(features[chosen], truth, sample.groups[chosen], seed=seed)
            more: dict[str, Any] = {}
            if progress is not None:
                progress()
            if pair == "all" and view == BACKGROUND:
                nothing = random_dealings(
                    features[chosen], truth, sample.groups[chosen], seed=seed, progress=progress
                )
                figure, p = _judged(figure, nothing)
                more = {"p": round(p, 4), "fires": p <= FIRES}
            rows.append(
                as_dict(METHOD, figure, target=target, pair=pair, input=view, images=len(chosen), **more)
            )
    heads = [row for row in rows if "p" in row]
    if not heads:
        return {
            "method": METHOD,
            "figure": None,
            "interval": None,
            "target": "none",
            "input": BACKGROUND,
            "fires": False,
            "rows": rows,
            "reason": f"neither two sources nor two classes with {MIN_GROUPS} groups each",
        }
    return {**heads[0], "chance": CHANCE, "rows": rows}


def targets(sample: Sample) -> list[tuple[str, str, NDArray[np.int64], NDArray[np.int64]]]:
    """What to tell apart: target, pair (or `all`), indices of images, and their side, numbered from 0."""
    found = []
    sources = _present(sample.sources, sample.groups)
    everything = np.arange(len(sample))
    if len(sources) > 1:
        chosen = everything[np.isin(sample.sources, sources)]
        found.append(("source", "all", chosen, np.searchsorted(sources, sample.sources[chosen])))
        if len(sources) > 2:  # noqa: PLR2004
            for first, second in combinations(sources, 2):
                chosen = everything[np.isin(sample.sources, [first, second])]
                pair = f"{sample.source_names[first]}|{sample.source_names[second]}"
                found.append(("source", pair, chosen, (sample.sources[chosen] == second).astype(np.int64)))
    for source in sources:
        inside = sample.sources == source
        classes = _present(sample.labels[inside], sample.groups[inside])
        if len(classes) > 1:
            chosen = everything[inside & np.isin(sample.labels, classes)]
            name = f"class within {sample.source_names[source]}"
            found.append((name, "all", chosen, np.searchsorted(classes, sample.labels[chosen])))
    return found


def steps(sample: Sample, views: int) -> int:
    """How often `source_probe` will report progress."""
    return sum(views + PERMUTATIONS * (pair == "all") for _, pair, _, _ in targets(sample))


def _present(numbers: NDArray[np.int64], groups: NDArray[np.int64]) -> list[int]:
    return [
        int(own)
        for own in np.unique(numbers)
        if own >= 0 and len(np.unique(groups[numbers == own])) >= MIN_GROUPS
    ]


def _auc(
    features: NDArray[np.float32],
    truth: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    seed: int,
    repeats: int = REPEATS,
    draws: int = 200,
) -> Estimate:
    """Mean AUC of images held out by group, over several dealings into folds: one dealing alone swings by chance."""
    rounds = [_held_out(features, truth, groups, seed=seed + 1000 * number) for number in range(repeats)]
    return mean_auc(truth, rounds, groups, draws=draws, seed=seed)


def _held_out(
    features: NDArray[np.float32], truth: NDArray[np.int64], groups: NDArray[np.int64], *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores (N, C) of each image from the model that had not seen its group, and the fold (N,) of each."""
    folds = np.full(len(truth), -1)
    sides = np.eye(int(truth.max()) + 1)[truth]
    scores = np.zeros_like(sides)
    for number, (train, test) in enumerate(folds_by_group(truth, groups, seed=seed)):
        scores[test] = _ridge(features[train], sides[train], features[test])
        folds[test] = number
    return scores, folds


def _ridge(
    features: NDArray[np.float32], sides: NDArray[np.float64], held_out: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Ridge regression of the sides (n, C) on standardised features, applied to images held out: (m, C)."""
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    known = ((features - centre) / scale).astype(np.float64)
    share = sides.mean(axis=0)
    gram = known.T @ known + PENALTY * len(known) * np.eye(known.shape[1])
    weights = np.linalg.solve(gram, known.T @ (sides - share))
    return np.asarray(((held_out - centre) / scale).astype(np.float64) @ weights + share)


def random_dealings(
    features: NDArray[np.float32],
    truth: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    seed: int,
    progress: Callable[[], None] | None = None,
) -> NDArray[np.float64]:
    """What the probe finds where there is nothing to find: AUC after dealing the sides anew among whole groups.

    Returns:
        (PERMUTATIONS,) AUC, around one half.
    """
    rng = np.random.default_rng(seed)
    _, first, own = np.unique(groups, return_index=True, return_inverse=True)
    sides = truth[first]
    found = []
    for number in range(PERMUTATIONS):
        dealt = rng.permutation(sides)[own]
        found.append(_auc(features, dealt, groups, seed=seed + number, repeats=1, draws=0).value)
        if progress is not None:
            progress()
    return np.asarray(found)


def _judged(estimate: Estimate, nothing: NDArray[np.float64]) -> tuple[Estimate, float]:
    """Widen an interval to the spread of random dealings, and say how many of these do as well.

    Drawing groups again takes the models as given; dealing sides anew trains each model anew, and so knows what they owe
    to chance. The spread shrinks towards an AUC of one as that of a proportion does.
    """
    value = estimate.value
    shrink = 2 * np.sqrt(max(0.0, value * (1 - value)))
    below, above = np.percentile(nothing - CHANCE, [2.5, 97.5]) * shrink
    wide = Estimate(
        value=value,
        low=max(0.0, min(estimate.low, value - float(above))),
        high=min(1.0, max(estimate.high, value - float(below))),
        n=estimate.n,
        method=f"{estimate.method}, no narrower than random dealings spread",
    )
    return wide, float((1 + (nothing >= value).sum()) / (len(nothing) + 1))


def source_only_floor(
    sample_labels: NDArray[np.int64], sources: NDArray[np.int64], groups: NDArray[np.int64]
) -> dict[str, Any]:
    """What knowing only the source gives: answering each source's most frequent class.

    Over all labelled images of the manifest, not a sample.
    """
    predicted = np.zeros_like(sample_labels)
    for source in np.unique(sources).tolist():
        inside = sources == source
        predicted[inside] = np.bincount(sample_labels[inside]).argmax()
    classes = len(LABELS)
    counts = np.bincount(sample_labels)
    return {
        **as_dict(
            "the most frequent class of the image's source",
            accuracy(sample_labels, predicted, groups, classes=classes),
            metric="accuracy",
        ),
        "largest_class": round(float(counts.max() / counts.sum()), 4),
        "macro_recall": as_dict(
            "the most frequent class of the image's source",
            macro_recall(sample_labels, predicted, groups, classes=classes),
            metric="macro recall",
        ),
        "sources": len(np.unique(sources)),
    }


def leave_one_source_out(
    sample: Sample, features: NDArray[np.float32], *, methods: Mapping[str, Factory], seed: int
) -> list[dict[str, Any]]:
    """Train on all sources but one and test on that one, for every class that another source has too.

    Images of another source in one group with an image of that one are left out of training too.
    """
    rows: list[dict[str, Any]] = []
    for source, name in enumerate(sample.source_names):
        inside = sample.sources == source
        apart = ~np.isin(sample.groups, sample.groups[inside])
        for label in np.unique(sample.labels[inside & (sample.labels >= 0)]).tolist():
            own = inside & (sample.labels == label)
            elsewhere = apart & (sample.labels == label)
            row: dict[str, Any] = {
                "left_out": name,
                "class": LABELS[label],
                "images": int(own.sum()),
                "identifiable": bool(elsewhere.any()),
            }
            if not elsewhere.any():
                row["statement"] = f"not identifiable: no other source has {LABELS[label]}"
            rows.append(row)
        open_rows = [row for row in rows if row["left_out"] == name and row["identifiable"]]
        rest = apart & (sample.labels >= 0)
        if not open_rows or len(np.unique(sample.labels[rest])) < 2:  # noqa: PLR2004
            for row in open_rows:
                row.update(identifiable=False, statement="not identifiable: one class is left to train on")
            continue
        for method, factory in methods.items():
            model = factory(seed).fit(features[rest], sample.labels[rest])
            for row in open_rows:
                own = inside & (sample.labels == LABELS.index(row["class"]))
                right = model.predict(features[own]) == sample.labels[own]
                row.setdefault("methods", []).append(_recall(method, right, sample.groups[own]))
        for row in open_rows:
            row.update(row["methods"][0])
    return rows


def _recall(method: str, right: NDArray[np.bool_], groups: NDArray[np.int64]) -> dict[str, Any]:
    """Recall with Wilson's interval over groups; a group counts as right as the share of its images that are."""
    shares = [float(right[groups == group].mean()) for group in np.unique(groups)]
    found, count = sum(shares), len(shares)
    low, high = wilson(found, count)
    return as_dict(
        method,
        Estimate(value=found / count, low=low, high=high, n=count),
        metric="recall, each group weighing the same",
    )
