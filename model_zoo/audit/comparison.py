"""Every compared method on both paths, with true labels and with random ones."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from model_zoo.audit.paths import augmented_pool, both_paths
from model_zoo.audit.probe import source_only_floor
from model_zoo.audit.sample import load_sample, spread
from model_zoo.compared.features import all_features
from model_zoo.compared.methods import METHODS, Method
from model_zoo.datasets.manifest import ManifestRow, patient_groups
from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS

SCHEMA: Final = "hemolink.comparison/1"


def compare(
    rows: Sequence[ManifestRow],
    *,
    per_class: int,
    copies: int,
    seed: int,
    methods: Sequence[Method] = METHODS,
    jobs: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Run every method as published (augment, then split) and honestly (split by group, then augment).

    Args:
        rows: Labelled rows of a manifest.
        per_class: Images of each class, spread over groups.
        copies: Augmented copies of each.
        seed: Of every choice.
        methods: Rows of the table.
        jobs: Processes that describe images.
        progress: Told what is going on, how much is done, and how much there is.

    Raises:
        DatasetError: If there is one class only, or a class has one group.
    """
    say = progress or (lambda _what, _done, _total: None)
    labels = np.asarray([LABELS.index(row.label) for row in rows], np.int64)
    groups = patient_groups(rows)
    for number in np.unique(labels).tolist():
        if len(np.unique(groups[labels == number])) < 2:  # noqa: PLR2004
            raise DatasetError(
                f"class {LABELS[number]} has a single group: add patients, or leave the class out"
            )
    if len(np.unique(labels)) < 2:  # noqa: PLR2004
        raise DatasetError(f"there is one class only, {LABELS[int(labels[0])]}: add images of another")
    chosen = spread(groups, labels, most=per_class, rng=np.random.default_rng(seed))
    sample = load_sample(rows, chosen, labels, groups)
    counter = iter(range(1, len(sample) + 1))
    pool = augmented_pool(
        sample,
        copies=copies,
        seed=seed,
        describe=all_features,
        jobs=jobs,
        progress=lambda: say("Describing copies", next(counter), len(sample)),
    )
    present = np.unique(sample.labels)
    steps = iter(range(1, 2 * len(methods) + 1))
    found = both_paths(
        pool,
        np.searchsorted(present, sample.labels),
        sample.groups,
        methods={method.name: method.factory for method in methods},
        metric="accuracy",
        seed=seed,
        progress=lambda: say("Comparing methods", next(steps), 2 * len(methods)),
    )
    by_name = {path: {row["method"]: row for row in found[path]["methods"]} for path in ("leaky", "honest")}
    return {
        "schema": SCHEMA,
        "images": len(sample),
        "groups": len(np.unique(sample.groups)),
        "classes": [LABELS[number] for number in present.tolist()],
        "copies": copies,
        "seed": seed,
        "source_only_floor": source_only_floor(sample.labels, sample.sources, sample.groups),
        "simulated": all(row.source.startswith("simulated") for row in rows),
        "methods": [
            {
                "method": method.name,
                "reported": method.reported,
                "note": method.note,
                "as_published": by_name["leaky"][method.name],
                "honest": by_name["honest"][method.name],
            }
            for method in methods
        ],
    }
