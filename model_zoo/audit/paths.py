"""The published path beside the honest one: augment, then split; or split by group, then augment.

Both use the same copies and the same features, so that nothing but the split differs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, train_test_split

from model_zoo.audit.figure import accuracy, as_dict, macro_recall
from model_zoo.audit.sample import Sample
from model_zoo.audit.views import View, full
from model_zoo.augmentation import Augmentation
from model_zoo.compared.methods import Factory

AS_PUBLISHED: Final = Augmentation(
    rotation=180, shift=0.1, zoom=0.15, shear=10, flip=0.5, stain=0, photometric=0, untouched=0
)
"""The study's six: rotation, height and width shift, horizontal flip, zoom, shear (ranges are not given there)."""

FOLDS: Final = 5
TEST_SHARE: Final = 0.2
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Images and their augmented copies, as features.

    Attributes:
        features: (M, D) float32.
        origin: (M,) index of the image that each row is, or is a copy of.
        original: (M,) whether the row is the image itself.
    """

    features: NDArray[np.float32]
    origin: NDArray[np.int64]
    original: NDArray[np.bool_]


def augmented_pool(
    sample: Sample,
    *,
    copies: int,
    seed: int,
    describe: View = full,
    jobs: int = 1,
    progress: Callable[[], None] | None = None,
) -> Pool:
    """Describe every image and `copies` augmented copies of it.

    Args:
        sample: The images.
        copies: Of each.
        seed: Of the copies.
        describe: Turns an image into features.
        jobs: Processes.
        progress: Called after each image.
    """
    work = (
        delayed(_copies)(sample.pixels[index], copies, (seed, index), describe)
        for index in range(len(sample))
    )
    features = []
    for rows in Parallel(n_jobs=jobs, return_as="generator")(work):
        features.append(rows)
        if progress is not None:
            progress()
    origins = np.repeat(np.arange(len(sample)), copies + 1)
    return Pool(np.concatenate(features), origins, np.arange(len(origins)) % (copies + 1) == 0)


def _copies(
    image: NDArray[np.uint8], copies: int, seed: tuple[int, int], describe: View
) -> NDArray[np.float32]:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    return np.stack([describe(_varied(image, rng) if copy else image) for copy in range(copies + 1)])


def _varied(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    matrix = AS_PUBLISHED.matrix(
        rng, source=(width / 2, height / 2), size=width, extent=(width, height), aspect=1
    )
    return np.asarray(
        cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        ),
        np.uint8,
    )


def leaky(
    pool: Pool, labels: Labels, groups: Labels, *, factory: Factory, seed: int
) -> tuple[Labels, Labels]:
    """Augment, then split 80/20 at random.

    Args:
        pool: Images with copies.
        labels: (N,) of the images.
        groups: (N,) of the images; not looked at, as in the study.
        factory: Makes the classifier.
        seed: Of split and classifier.

    Returns:
        Rows of the pool that were tested, and what was predicted for each.
    """
    del groups
    own = labels[pool.origin]
    train, test = train_test_split(np.arange(len(own)), test_size=TEST_SHARE, random_state=seed, stratify=own)
    model = factory(seed).fit(pool.features[train], own[train])
    return test, np.asarray(model.predict(pool.features[test]), np.int64)


def honest(
    pool: Pool, labels: Labels, groups: Labels, *, factory: Factory, seed: int, stratify: bool = True
) -> tuple[Labels, Labels]:
    """Split by group, then augment the training part only; every image is tested once, in its original, in five folds.

    Args and returns as `leaky`. Without `stratify` the folds know no label, as they must not where labels are random:
    holding out an image of one label leaves fewer of it to learn from, and pulls a chance result below chance.
    """
    tested, predicted = [], []
    folds = folds_by_group(labels if stratify else None, groups, seed=seed)
    for train, test in folds:
        learnt = np.isin(pool.origin, train)
        held = np.flatnonzero(pool.original & np.isin(pool.origin, test))
        model = factory(seed).fit(pool.features[learnt], labels[pool.origin[learnt]])
        tested.append(held)
        predicted.append(np.asarray(model.predict(pool.features[held]), np.int64))
    return np.concatenate(tested), np.concatenate(predicted)


def folds_by_group(labels: Labels | None, groups: Labels, *, seed: int) -> list[tuple[Labels, Labels]]:
    """Up to five folds, stratified by label if there are labels, no group in two: (train, test) indices of each.

    Fewer folds where a class has fewer groups, but at least two.
    """
    empty = np.zeros((len(groups), 1))
    if labels is None:
        count = max(2, min(FOLDS, len(np.unique(groups))))
        return list(GroupKFold(count, shuffle=True, random_state=seed).split(empty, None, groups))
    smallest = min(len(np.unique(groups[labels == own])) for own in np.unique(labels).tolist())
    splitter = StratifiedGroupKFold(max(2, min(FOLDS, smallest)), shuffle=True, random_state=seed)
    return list(splitter.split(empty, labels, groups))


def both_paths(
    pool: Pool,
    labels: Labels,
    groups: Labels,
    *,
    methods: dict[str, Factory],
    metric: str,
    seed: int,
    random_labels: bool = False,
    progress: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Run every method on both paths.

    Args:
        pool: Images with copies.
        labels: (N,) class numbers from 0.
        groups: (N,) group numbers.
        methods: By name.
        metric: `accuracy`, or `macro recall`.
        seed: Of splits and classifiers.
        random_labels: Whether the labels were drawn at random; folds must not look at them then.
        progress: Called after each method and path.

    Returns:
        `leaky` and `honest`, each headed by the method that is best on the leaky path, with all in `methods`.
    """
    measure = accuracy if metric == "accuracy" else macro_recall
    classes = int(labels.max()) + 1
    found: dict[str, list[dict[str, Any]]] = {"leaky": [], "honest": []}
    honestly = partial(honest, stratify=not random_labels)
    for name, path in (("leaky", leaky), ("honest", honestly)):
        for method, factory in methods.items():
            tested, predicted = path(pool, labels, groups, factory=factory, seed=seed)
            origin = pool.origin[tested]
            estimate = measure(labels[origin], predicted, groups[origin], classes=classes)
            found[name].append(as_dict(method, estimate, metric=metric, tested=len(tested)))
            if progress is not None:
                progress()
    head = max(found["leaky"], key=lambda row: row["figure"])["method"]
    return {
        name: {**next(row for row in rows if row["method"] == head), "methods": rows}
        for name, rows in found.items()
    }
