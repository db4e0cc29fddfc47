"""The whole audit of a manifest, as one report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from model_zoo.audit.paths import Pool, augmented_pool, both_paths
from model_zoo.audit.power import sample_sizes, statements
from model_zoo.audit.probe import leave_one_source_out, source_only_floor, source_probe, steps
from model_zoo.audit.sample import Sample, load_sample, spread
from model_zoo.audit.views import VIEWS, all_views
from model_zoo.compared.methods import PROBES
from model_zoo.datasets.manifest import ManifestRow, patient_groups
from model_zoo.errors import DatasetError
from model_zoo.labels import LABELS

SCHEMA: Final = "hemolink.audit/1"
NULL_CLASSES: Final = 5
FEWEST_GROUPS: Final = 20
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class AuditSettings:
    """How much to look at.

    Attributes:
        null_images: Images of the null-label test, one a group.
        per_class: Images of each class in the test with real labels.
        per_source: Images of each source, or of each class where there is one source, in the probes.
        copies: Augmented copies of each image.
        seed: Of every choice.
        jobs: Processes that describe images.
    """

    null_images: int = 160
    per_class: int = 120
    per_source: int = 200
    copies: int = 10
    seed: int = 0
    jobs: int = 1


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes:
        report: What was found, ready for JSON.
        examples: One image a source (and class), for the page.
    """

    report: dict[str, Any]
    examples: list[tuple[str, Any]]


def audit_rows(
    rows: Sequence[ManifestRow], *, settings: AuditSettings, progress: Progress | None = None
) -> Audit:
    """Audit the images of a manifest.

    Args:
        rows: Its labelled rows, and those of unlabelled sources, whose label is empty.
        settings: How much to look at.
        progress: Told what is going on, how much is done, and how much there is.

    Raises:
        DatasetError: If there is one class only, too few groups, or an image cannot be used.
    """
    say = _Steps(progress)
    labels = np.asarray([LABELS.index(row.label) if row.label else -1 for row in rows], np.int64)
    groups = patient_groups(rows)
    names = sorted({row.source for row in rows})
    sources = np.asarray([names.index(row.source) for row in rows], np.int64)
    labelled = labels >= 0
    _require(labels[labelled], groups[labelled])
    rng = np.random.default_rng(settings.seed)

    def load(chosen: Any) -> Sample:
        say.start("Reading", len(chosen))
        return load_sample(rows, chosen, labels, groups, progress=say.tick)

    def pool(sample: Sample) -> Pool:
        say.start("Describing copies", len(sample))
        return augmented_pool(
            sample, copies=settings.copies, seed=settings.seed, jobs=settings.jobs, progress=say.tick
        )

    strata = labels * len(names) + sources
    nothing = np.zeros(len(rows), np.int64)
    null = load(spread(groups, nothing, most=settings.null_images, rng=rng, one_a_group=True))
    null_labels = rng.integers(0, NULL_CLASSES, len(null))
    null_pool = pool(null)
    say.start("Random labels, both paths", 2 * len(PROBES))
    null_found = both_paths(
        null_pool,
        null_labels,
        null.groups,
        methods=PROBES,
        metric="accuracy",
        seed=settings.seed,
        random_labels=True,
        progress=say.tick,
    )

    real = load(
        np.flatnonzero(labelled)[spread(groups[labelled], labels[labelled], most=settings.per_class, rng=rng)]
    )
    present = np.unique(real.labels)
    real_pool = pool(real)
    say.start("Real labels, both paths", 2 * len(PROBES))
    real_found = both_paths(
        real_pool,
        np.searchsorted(present, real.labels),
        real.groups,
        methods=PROBES,
        metric="macro recall",
        seed=settings.seed,
        progress=say.tick,
    )
    several = len(names) > 1
    probed = load(spread(groups, sources if several else strata, most=settings.per_source, rng=rng))
    say.start("Describing views", len(probed))
    described = all_views(probed.pixels, jobs=settings.jobs, progress=say.tick)
    say.start("Probing for the source", steps(probed, len(VIEWS)))
    probe = source_probe(probed, described, seed=settings.seed, progress=say.tick)
    say.start("Leaving one source out", 1)
    left_out = leave_one_source_out(probed, described["full"], methods=PROBES, seed=settings.seed)
    say.tick()
    simulated = all(row.source.startswith("simulated") for row in rows)
    sizes = sample_sizes(labels[labelled], groups[labelled], sources[labelled])
    report = {
        "schema": SCHEMA,
        "simulated": simulated,
        "images": len(rows),
        "labelled": int(labelled.sum()),
        "groups": len(np.unique(groups)),
        "sources": names,
        "settings": {
            "null_images": len(null),
            "real_images": len(real),
            "probe_images": len(probed),
            "copies": settings.copies,
            "seed": settings.seed,
        },
        "null_label": {
            "chance": 1 / NULL_CLASSES,
            "classes": NULL_CLASSES,
            "images": len(null),
            **null_found,
        },
        "real_label": {
            "chance": round(1 / len(present), 4),
            "classes": [LABELS[number] for number in present.tolist()],
            "images": len(real),
            **real_found,
        },
        "source_probe": probe,
        "source_only_floor": source_only_floor(labels[labelled], sources[labelled], groups[labelled]),
        "leave_one_source_out": left_out,
        "sample_sizes": sizes,
        "statements": statements(sizes, simulated=simulated),
    }
    return Audit(report, _examples(probed))


def _require(labels: Any, groups: Any) -> None:
    present = np.unique(labels)
    if len(present) < 2:  # noqa: PLR2004
        only = LABELS[int(present[0])] if len(present) else "none"
        raise DatasetError(
            f"there is one class only ({only}): nothing can be told apart; add images of another"
        )
    for number in present.tolist():
        count = len(np.unique(groups[labels == number]))
        if count < 2:  # noqa: PLR2004
            raise DatasetError(
                f"class {LABELS[number]} has a single group: no split can have it on both sides; add patients, or leave "
                "the class out"
            )
    if len(np.unique(groups)) < FEWEST_GROUPS:
        raise DatasetError(
            f"there are {len(np.unique(groups))} groups in all, and random labels need {FEWEST_GROUPS}: add patients"
        )


def _examples(sample: Sample) -> list[tuple[str, Any]]:
    """The first image of each source, or of each source's classes where there is one source."""
    found: dict[str, Any] = {}
    several = len(sample.source_names) > 1
    for index in range(len(sample)):
        name = sample.source_names[sample.sources[index]]
        if not several:
            label = int(sample.labels[index])
            name = f"{name}, {LABELS[label] if label >= 0 else 'no label'}"
        found.setdefault(name, sample.pixels[index])
    return sorted(found.items())


class _Steps:
    """Counts a step's work for whoever shows progress."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress or (lambda _what, _done, _total: None)
        self._what, self._done, self._total = "", 0, 0

    def start(self, what: str, total: int) -> None:
        self._what, self._done, self._total = what, 0, total

    def tick(self) -> None:
        self._done += 1
        self._progress(self._what, self._done, self._total)
