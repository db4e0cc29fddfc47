"""What so many images can show, and what they cannot."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_zoo.intervals import Z95
from model_zoo.labels import LABELS

TEST_SHARE: Final = 0.2
MISS_RATE: Final = 0.02
"""The miss rate that screening wants to stay below."""


def sample_sizes(
    labels: NDArray[np.int64], groups: NDArray[np.int64], sources: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """For every class: images, groups, sources, and the bounds that a fifth of its groups can give.

    `error_bound` is the upper end of the exact 95 % interval of the error rate when no error occurs among the test
    groups (Clopper and Pearson 1934, one-sided); `half_width` that of a Wilson interval at a recall of 90 %.
    """
    rows = []
    for number, label in enumerate(LABELS):
        own = labels == number
        count = len(np.unique(groups[own]))
        test = max(1, round(TEST_SHARE * count)) if count else 0
        rows.append(
            {
                "class": label,
                "images": int(own.sum()),
                "groups": count,
                "sources": len(np.unique(sources[own])),
                "test_groups": test,
                "error_bound": round(1 - 0.05 ** (1 / test), 4) if test else 1.0,
                "half_width": round(Z95 * math.sqrt(0.09 / test), 4) if test else 1.0,
            }
        )
    return rows


def groups_needed(miss_rate: float = MISS_RATE) -> int:
    """Groups that must all be right to bound a miss rate with 95 % confidence."""
    return math.ceil(math.log(0.05) / math.log(1 - miss_rate))


def statements(sizes: list[dict[str, Any]], *, simulated: bool) -> list[str]:
    """What the sample sizes allow to say, one sentence each."""
    said = []
    if simulated:
        said.append(
            "SIMULATED: nothing here says how a model does on real smears; it shows whether the audit works."
        )
    for row in sizes:
        if not row["images"]:
            said.append(f"{row['class']}: no image; nothing can be said of it, in training or in test.")
            continue
        said.append(
            f"{row['class']}: {row['images']} images in {row['groups']} groups from {row['sources']} source(s). With "
            f"{row['test_groups']} groups in test, no error at all still allows an error rate of "
            f"{100 * row['error_bound']:.1f} %."
        )
        if row["sources"] == 1:
            said.append(
                f"{row['class']} comes from one source: how it is recognised elsewhere cannot be measured here."
            )
    said.append(
        f"To show a miss rate of at most {100 * MISS_RATE:.0f} % takes {groups_needed()} patients of a class in test, all "
        "found."
    )
    return said
