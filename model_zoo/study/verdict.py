"""What a study's figures may and may not be taken for: warnings, and the promise held against the truth."""

from typing import Any, Final

_EQUAL: Final = 0.9


def truth(protocols: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each protocol's own figure beside what its network does on fresh patients, as balanced accuracy.

    Classes come in other shares among fresh images, so that accuracies would not compare; mean recall does.

    Args:
        protocols: Of the report, each with `figures` and `fresh`.
    """
    found = []
    for name, one in protocols.items():
        promise, real = one["figures"]["balanced_accuracy"], one["fresh"]["balanced_accuracy"]
        low, high = promise["bootstrap"]
        holds = low <= real["value"] <= high
        found.append(
            {
                "protocol": name,
                "promise": promise,
                "truth": real,
                "gap": round(promise["value"] - real["value"], 5),
                "interval_holds_truth": holds,
                "images": one["fresh"]["images"],
                "groups": one["fresh"]["groups"],
            }
        )
    return found


def warnings(report: dict[str, Any]) -> list[str]:
    """What must stand beside the figures, most serious first."""
    said = []
    if report["simulated"]:
        said.append(
            "SIMULATED smears: these figures say nothing of real ones; what they compare is the protocols."
        )
    if report["null_labels"]:
        said.append(
            "Labels were drawn at random, one for each group: there is nothing to learn, and whatever is above chance "
            f"({100 / len(report['classes']):.0f} %) is memory of images seen in training."
        )
    else:
        said += _about_sources(report["sources"], simulated=report["simulated"])
    leaking = report["protocols"].get("as-published")
    if leaking is not None:
        share = 100 * leaking["tested_with_sibling_in_training"]
        said.append(
            f"as-published leaks: {share:.1f} % of its tested images have a copy of the same original in training, and the "
            "same patients are on both sides. Its figure is shown to be compared with, and measures memory."
        )
    honest = report["protocols"].get("honest")
    if honest is not None:
        few = [
            f"{row['class']} {row['images']} images of {row['groups']} group(s)"
            for row in honest["figures"]["by_class"]
            if row["groups"] < 20  # noqa: PLR2004 - Wilson's interval is then wider than 15 points at no error
        ]
        if few:
            said.append(f"Few to test on with the honest protocol: {', '.join(few)}. Look at the intervals.")
    if len(report["classes"]) < 5 and not report["null_labels"]:  # noqa: PLR2004
        said.append(
            f"The manifest has {', '.join(report['classes'])} only; the study had five classes, which is harder. Its counts "
            "were scaled to those that are there."
        )
    if report["recipe"]["batches"] < 700 * 0.9:
        said.append(f"Trained for {report['recipe']['batches']} batches; the study had about 700.")
    if "scratch" in report["start"]:
        said.append("Started from random weights; the study started from ImageNet's.")
    return said


def caveat(report: dict[str, Any]) -> str:
    """A few words to stand beside every figure; empty where there is nothing to say."""
    if report["simulated"]:
        return "SIMULATED"
    if report["null_labels"]:
        return "random labels"
    return "class equals source" if source_floor(report["sources"]) >= _EQUAL else ""


def source_floor(sources: dict[str, dict[str, int]]) -> float:
    """Share of images that are right if each is called what most of its source are; 0 where there is one source.

    Args:
        sources: Images of each class by source.
    """
    counts: dict[str, list[int]] = {}
    for own in sources.values():
        for source, count in own.items():
            counts.setdefault(source, []).append(count)
    if len(counts) == 1:
        return 0.0
    return sum(max(own) for own in counts.values()) / sum(sum(own) for own in counts.values())


def _about_sources(sources: dict[str, dict[str, int]], *, simulated: bool) -> list[str]:
    """A warning where the source alone says most of the class."""
    floor = source_floor(sources)
    if simulated or not floor:
        return []
    sizes = [sum(own.values()) for own in sources.values()]
    commonest = max(sizes) / sum(sizes)
    named = "; ".join(
        f"{label} from {', '.join(f'{source} ({count})' for source, count in own.items())}"
        for label, own in sources.items()
    )
    said = "Class equals source" if floor >= _EQUAL else "The source gives some of the class away"
    return [
        (
            f"{said} ({named}): whoever knows the source alone and names its most frequent class is right on "
            f"{100 * floor:.1f} % of the images, where the largest class makes {100 * commonest:.1f} %. With either protocol, no "
            "figure here can tell disease from laboratory, camera and stain."
        )
    ]
