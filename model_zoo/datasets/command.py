"""`hemolink model manifest`: from folders of images to a manifest, and to a sealed split."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import click

from model_zoo.datasets.progress import Steps

if TYPE_CHECKING:
    from model_zoo.datasets.layout import Listed
    from model_zoo.datasets.survey import Survey
    from model_zoo.datasets.vocabulary import Vocabulary

SHOWN: Final = 5


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="[SOURCE=]PATH...")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The manifest to write, or a folder for it."
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=LABEL",
    help="What a folder's or column's name stands for: a label, or label/subtype (AML/M3); - keeps its images unlabelled. "
    "May be repeated.",
)
@click.option("--licence", default="", help="Of images whose list states none.")
@click.option(
    "--split", "seed", type=click.IntRange(0), help="Write split.json too, sealed, dealt by this seed."
)
@click.option("--strict", is_flag=True, help="Write nothing if any file has to be left out.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def manifest(
    *,
    inputs: tuple[str, ...],
    out: Path,
    labels: tuple[str, ...],
    licence: str,
    seed: int | None,
    strict: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write a manifest of the images at each PATH.

    A PATH is a folder as ALL-IDB, C-NMC or the ASH image bank are kept, any folder class/image or class/patient/image,
    or a CSV with the columns path and label. Every file is read and hashed; near-duplicates, crops and their fields,
    and what shares a patient are united into groups, so that no split can divide them. The report, with the reason for
    each union, goes beside the manifest. Files that cannot be used are left out and named.
    """
    from model_zoo.datasets.manifest import write_manifest  # noqa: PLC0415
    from model_zoo.datasets.survey import survey_images  # noqa: PLC0415
    from model_zoo.datasets.vocabulary import Vocabulary  # noqa: PLC0415
    from model_zoo.errors import ModelZooError  # noqa: PLC0415

    target = out if out.suffix.lower() == ".csv" else out / "manifest.csv"
    try:
        vocabulary = Vocabulary(dict(_named(label) for label in labels))
        listed, layouts = _listed(inputs, vocabulary)
        with Steps(sys.stderr, hidden=quiet) as steps:
            survey = survey_images(listed, vocabulary=vocabulary, strict=strict, progress=steps.step)
        write_manifest(target, survey, licence=licence)
        report = _report(survey, target, layouts)
        if seed is not None:
            report["split"] = _split(target, seed)
        report_path = target.with_suffix(".json")
        report_path.write_text(json.dumps(report, indent=1), encoding="utf-8")
    except ModelZooError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{target} cannot be written ({error.strerror}): choose another --out"
        ) from error
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(_described(report))
        click.echo(f"report, with the reason for each union: {report_path}")
        click.echo(
            f"next: hemolink model audit --manifest {quote(str(target))}; then hemolink model train --data {quote(str(target))}"
            f"{' --split ' + quote(report['split']['path']) if seed is not None else ''} --run DIR"
        )


def _named(label: str) -> tuple[str, str]:
    name, equals, meaning = label.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--label {label}: write NAME=LABEL")
    return name, meaning


def _listed(inputs: Sequence[str], vocabulary: "Vocabulary") -> tuple[list["Listed"], dict[str, str]]:
    from model_zoo.datasets.layout import list_images  # noqa: PLC0415
    from model_zoo.errors import DatasetError  # noqa: PLC0415

    listed: list[Listed] = []
    layouts: dict[str, str] = {}
    for text in inputs:
        source, equals, place = text.partition("=")
        if not equals or Path(text).exists():
            source, place = "", text
        layout, images = list_images(Path(place), source=source, vocabulary=vocabulary)
        vocabulary.check((image.name for image in images), where=place)
        layouts[place] = layout
        listed += images
    twice = [path for path, count in Counter(image.path.resolve() for image in listed).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{len(twice)} images are listed twice (first: {twice[0]}): name each PATH or row once"
        )
    return listed, layouts


def _split(target: Path, seed: int) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415

    from model_zoo.datasets.manifest import patient_groups, read_manifest  # noqa: PLC0415
    from model_zoo.datasets.split import PARTS, split_by_group, write_split  # noqa: PLC0415
    from model_zoo.labels import LABELS  # noqa: PLC0415
    from model_zoo.training_commands import REAL_FRACTIONS  # noqa: PLC0415

    rows = read_manifest(target)
    numbers = np.asarray([LABELS.index(row.label) for row in rows], np.int64)
    groups = patient_groups(rows)
    split = split_by_group(
        numbers, groups, fractions=REAL_FRACTIONS, seed=seed, sources=[row.source for row in rows]
    )
    path = target.with_name("split.json")
    seal = write_split(path, rows, split, seed=seed, fractions=REAL_FRACTIONS)
    return {
        "path": str(path),
        "seal": seal,
        "seed": seed,
        "images": {part: len(getattr(split, part)) for part in PARTS},
        "groups": {part: len(np.unique(groups[getattr(split, part)])) for part in PARTS},
    }


def _report(survey: "Survey", target: Path, layouts: dict[str, str]) -> dict[str, Any]:
    paths = [str(image.listed.path) for image in survey.images]
    unknown = sum(not image.listed.patient and not image.listed.group for image in survey.images)
    return {
        "manifest": str(target),
        "layouts": layouts,
        "images": len(survey.images),
        "groups": len(set(survey.groups.tolist())),
        "labelled": sum(bool(image.label) for image in survey.images),
        "of_unknown_patient": unknown,
        "counts": survey.counts(),
        "subtypes": survey.subtypes(),
        "ties": dict(Counter(tie.kind for tie in survey.ties)),
        "unions": [
            {"first": paths[t.first], "second": paths[t.second], "kind": t.kind, "detail": t.detail}
            for t in survey.ties
        ],
        "duplicates_across_labels": [
            {
                "first": paths[a],
                "first_label": survey.images[a].label,
                "second": paths[b],
                "second_label": survey.images[b].label,
            }
            for a, b in survey.suspicious
        ],
        "crops_without_field": survey.orphans,
        "left_out": [
            {"path": str(one.path), "reason": one.reason, "message": one.message} for one in survey.left_out
        ],
        "not_found_by_looking": (
            "copies turned by other than right angles, zoomed by more than about 4 %, or shifted by more than an eighth "
            "of the side, and different fields of one slide"
        ),
    }


def _described(report: dict[str, Any]) -> str:
    lines = [
        f"{report['manifest']}: {report['images']} images in {report['groups']} groups",
        *(f"{place}: layout {layout}" for place, layout in report["layouts"].items()),
        "",
        f"{'class':<12}{'source':<24}{'images':>8}{'groups':>8}",
        *(
            f"{row['label'] or '(none)':<12}{row['source']:<24}{row['images']:>8}{row['groups']:>8}"
            for row in report["counts"]
        ),
        "",
    ]
    known = [row for row in report["subtypes"] if row["known"]]
    lines += [
        f"{row['label']}/{row['subtype']}: {row['images']} images in {row['groups']} groups" for row in known
    ]
    strange = [
        f"{row['label']}/{row['subtype']} ({row['images']})" for row in report["subtypes"] if not row["known"]
    ]
    if strange:
        lines.append(
            f"subtypes that the label tree does not know: {', '.join(strange)}; kept as written, they count as their label only"
        )
    for kind, count in report["ties"].items():
        lines.append(f"united by {kind}: {count}")
    looked = [union for union in report["unions"] if union["kind"] == "near-duplicate"]
    lines += [f"  {Path(u['first']).name} ~ {Path(u['second']).name}: {u['detail']}" for u in looked[:SHOWN]]
    if report["of_unknown_patient"]:
        lines.append(
            f"of unknown patient: {report['of_unknown_patient']}; their groups rest on near-duplicates alone, and "
            f"these are not found: {report['not_found_by_looking']}"
        )
    if report["crops_without_field"]:
        lines.append(
            f"crops whose field is not among the fields given: {report['crops_without_field']}; crops of one field may "
            "part company in a split: give ALL-IDB1 too"
        )
    for pair in report["duplicates_across_labels"]:
        lines.append(
            f"WARNING two labels: {pair['first']} is {pair['first_label']}, {pair['second']} is {pair['second_label']}, "
            "and they show the same"
        )
    reasons = Counter(one["reason"] for one in report["left_out"])
    for reason, count in reasons.most_common():
        first = next(one for one in report["left_out"] if one["reason"] == reason)
        lines.append(f"left out, {reason}: {count} (first: {first['path']}: {first['message']})")
    if "split" in report:
        split = report["split"]
        parts = ", ".join(
            f"{part} {n} in {split['groups'][part]} groups" for part, n in split["images"].items()
        )
        lines.append(f"split: {parts}; sealed {split['seal'][:12]}")
    return "\n".join(lines)
