"""`hemolink model study`: the published study, as published and honestly."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_zoo.datasets.progress import Steps

if TYPE_CHECKING:
    from model_zoo.study.recipe import Recipe

_manifest = click.Path(path_type=Path)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--manifest", "data", type=_manifest, required=True, help="A manifest.csv, or its folder.")
@click.option(
    "--architecture",
    default="resnet34",
    show_default=True,
    help="The network; resnet34 and densenet121 are the study's.",
)
@click.option("--recipe", "recipe_file", type=_file, help="A recipe of your own, in YAML, instead.")
@click.option(
    "--protocol", type=click.Choice(["as-published", "honest", "both"]), default="both", show_default=True
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for page, tables, checkpoints.",
)
@click.option(
    "--fresh",
    type=_manifest,
    help="A manifest of other patients: what both networks really do, beside what they claim.",
)
@click.option(
    "--null-labels", is_flag=True, help="Random labels, one image a group: what is above chance is memory."
)
@click.option(
    "--all-images", is_flag=True, help="Use all images of the manifest, not as many as the study had."
)
@click.option(
    "--made-images",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Train once more, honestly, with so many MADE images, and measure what that changes.",
)
@click.option(
    "--generator-steps",
    type=click.IntRange(1),
    default=1200,
    show_default=True,
    help="Of the generator of MADE images.",
)
@click.option("--from-scratch", is_flag=True, help="Start from random weights instead of ImageNet's.")
@click.option(
    "--weights", type=_file, help="ImageNet weights from a local safetensors file, instead of the hub."
)
@click.option("--batches", type=click.IntRange(1), help="Instead of the recipe's (about 700 in the study).")
@click.option("--batch-size", type=click.IntRange(2), help="Instead of the recipe's.")
@click.option("--size", type=click.IntRange(32), help="Side of the input in pixels, instead of the recipe's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all chance.")
@click.option("--resume", is_flag=True, help="Go on where the study in --out stopped.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def study(
    *,
    data: Path,
    architecture: str,
    recipe_file: Path | None,
    protocol: str,
    out: Path,
    fresh: Path | None,
    null_labels: bool,
    all_images: bool,
    made_images: int,
    generator_steps: int,
    from_scratch: bool,
    weights: Path | None,
    batches: int | None,
    batch_size: int | None,
    size: int | None,
    seed: int,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Repeat the published study on your images, as published and honestly.

    As published, images are augmented first, and the copies split 80/20 at random: nearly every tested image has a sibling
    in training. Honestly, groups (patients, slides, near-duplicates) are split first, and only the training part is
    augmented. Both train the same network for as many batches from as many images; the page lays both beside the study's
    table. ImageNet weights come from timm's hub or from --weights; without either, say --from-scratch.
    """
    if from_scratch and weights is not None:
        raise click.UsageError("--from-scratch and --weights exclude each other")
    if made_images and protocol == "as-published":
        raise click.UsageError(
            "--made-images needs the honest protocol: as published, tested images have siblings in training"
        )
    if made_images and null_labels:
        raise click.UsageError(
            "--made-images and --null-labels exclude each other: random labels have no images to make"
        )
    if null_labels and fresh is not None:
        raise click.UsageError("--null-labels and --fresh exclude each other: random labels have no truth")
    from model_zoo.datasets.manifest import read_manifest  # noqa: PLC0415 - torch and scikit-learn take seconds
    from model_zoo.errors import ModelZooError  # noqa: PLC0415
    from model_zoo.study.files import write_tables  # noqa: PLC0415
    from model_zoo.study.page import write_page  # noqa: PLC0415
    from model_zoo.study.plan import PROTOCOLS  # noqa: PLC0415
    from model_zoo.study.protocol import Start  # noqa: PLC0415
    from model_zoo.study.recipe import load_recipe  # noqa: PLC0415
    from model_zoo.study.run import StudyRun, StudySettings  # noqa: PLC0415

    started = time.monotonic()
    try:
        recipe = _changed(
            load_recipe(recipe_file or architecture), batches=batches, batch_size=batch_size, size=size
        )
        settings = StudySettings(
            recipe,
            protocols=tuple(name for name in PROTOCOLS if protocol in {name, "both"}),
            start=Start(from_scratch=from_scratch, weights=weights),
            all_images=all_images,
            null_labels=null_labels,
            made_images=made_images,
            generator_steps=generator_steps,
            seed=seed,
        )
        with Steps(sys.stderr, hidden=quiet) as steps:
            run = StudyRun(
                settings,
                read_manifest(data),
                out,
                fresh=read_manifest(fresh) if fresh is not None else (),
                quiet=quiet,
                progress=steps.step,
            )
            found = run.run(resume=resume)
        page = write_page(out, found.report, found.made)
        write_tables(out, found.report)
    except ModelZooError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be written ({error.strerror}): choose another --out"
        ) from error
    report = {**found.report, "page": str(page), "seconds": round(time.monotonic() - started, 1)}
    click.echo(json.dumps(report) if as_json else described(report))


def _changed(recipe: "Recipe", **changes: int | None) -> "Recipe":
    from model_zoo.errors import TrainingError  # noqa: PLC0415

    wanted = {key: value for key, value in changes.items() if value is not None}
    if wanted.get("size", 32) % 32:
        raise TrainingError(f"--size {wanted['size']}: the side must be a multiple of 32 pixels")
    return recipe.model_copy(update=wanted)


def described(report: dict[str, Any]) -> str:
    """The study's table beside ours, as text."""
    known = report["published"] if not report["null_labels"] else None
    lines = [f"WARNING: {line}" for line in report["warnings"]]
    aside = f" [{report['caveat']}]" if report["caveat"] else ""
    for name, one in report["protocols"].items():
        figures = one["figures"]
        lines += [
            "",
            f"{report['architecture']}, {name}: {one['how']}{aside}",
            (
                f"{'class':<9}{'images':>7}{'groups':>7}{'published':>11}  "
                f"{'accuracy %':<22}{'precision %':<22}{'recall %':<22}F1 %"
            ),
        ]
        lines += [
            f"{row['class']:<9}{row['images']:>7}{row['groups']:>7}"
            f"{_published(known, row['class']):>11}  "
            f"{_share(row['accuracy']):<22}{_share(row['precision']):<22}{_share(row['recall']):<22}{_share(row['f1'])}"
            for row in figures["by_class"]
        ]
        lines += [
            f"all      {figures['images']:>7}{figures['groups']:>7}{_published(known, None):>11}  {_share(figures['accuracy'])}",
            f"errors: {figures['errors']} of {figures['images']}"
            + (f" (published: {known['errors']} of {known['test_images']})" if known else ""),
            "confusion (rows truth, columns answer): "
            + "; ".join(
                f"{label} {counts}"
                for label, counts in zip(figures["labels"], figures["confusion"], strict=True)
            ),
        ]
    for row in report["truth"] or ():
        lines += [
            "",
            (
                f"{row['protocol']}: claims {_share(row['promise'])} balanced, does {_share(row['truth'])}{aside} on {row['images']} fresh "
                f"images of {row['groups']} patients: {100 * row['gap']:+.1f} points too much"
            ),
        ]
    if report["made"] is not None:
        for where in ("test", "fresh"):
            one = report["made"][where]
            if one is not None:
                low, high = one["interval"]
                lines.append(
                    f"MADE images, {where}: {100 * one['value']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}) of accuracy{aside}"
                )
    return "\n".join([*lines, "", "intervals: 95 %, whole groups drawn again", f"page: {report['page']}"])


def _published(known: dict[str, Any] | None, label: str | None) -> str:
    if known is None:
        return "-"
    return f"{known['accuracy'] if label is None else known['by_class'][label]:.2f}"


def _share(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "none so called"
    low, high = row["bootstrap"]
    return f"{100 * row['value']:.1f} ({100 * low:.1f}-{100 * high:.1f})"
