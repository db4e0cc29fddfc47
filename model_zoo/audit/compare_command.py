"""`hemolink model compare`: the study's other methods, as published and honestly."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from model_zoo.datasets.progress import Steps


@click.command()
@click.option(
    "--manifest",
    "data",
    type=click.Path(path_type=Path),
    required=True,
    help="A manifest.csv, or its folder.",
)
@click.option(
    "--per-class", type=click.IntRange(4), default=120, show_default=True, help="Images of each class."
)
@click.option(
    "--copies",
    type=click.IntRange(1, 50),
    default=10,
    show_default=True,
    help="Augmented copies of each image.",
)
@click.option("--method", "names", multiple=True, help="Only this row; may be repeated.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every choice.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def compare(
    *,
    data: Path,
    per_class: int,
    copies: int,
    names: tuple[str, ...],
    seed: int,
    jobs: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the methods that the study was compared with, on these images.

    Each is trained twice on the same augmented copies: as published (augment, then split 80/20) and honestly (split by
    group, then augment). The reported column is what the study quotes for the method, mostly on other tasks and data.
    """
    from model_zoo.audit import comparison  # noqa: PLC0415 - scikit-learn and scikit-image take seconds
    from model_zoo.compared.methods import METHODS  # noqa: PLC0415
    from model_zoo.datasets.manifest import read_manifest  # noqa: PLC0415
    from model_zoo.errors import ModelZooError  # noqa: PLC0415

    unknown = set(names) - {method.name for method in METHODS}
    if unknown:
        known = ", ".join(method.name for method in METHODS)
        raise click.UsageError(f"--method {', '.join(sorted(unknown))}: there are {known}")
    methods = [method for method in METHODS if not names or method.name in names]
    try:
        with Steps(sys.stderr, hidden=quiet) as steps:
            report = comparison.compare(
                read_manifest(data),
                per_class=per_class,
                copies=copies,
                seed=seed,
                methods=methods,
                jobs=jobs,
                progress=steps.step,
            )
    except ModelZooError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(report) if as_json else _table(report))


def _table(report: dict[str, Any]) -> str:
    lines = ["SIMULATED"] if report["simulated"] else []
    lines += [
        f"{report['images']} images in {report['groups']} groups, classes {', '.join(report['classes'])}",
        *_about_sources(report),
        "accuracy in percent (95 % interval over groups)",
        f"{'method':<20}{'reported':>9}  {'as published':<22}{'honest':<22}note",
    ]
    for row in report["methods"]:
        reported = f"{row['reported']:.2f}" if row["reported"] is not None else "-"
        lines.append(
            f"{row['method']:<20}{reported:>9}  {_figure(row['as_published']):<22}{_figure(row['honest']):<22}{row['note']}"
        )
    return "\n".join(lines)


def _about_sources(report: dict[str, Any]) -> list[str]:
    if report["source_only_floor"]["sources"] == 1:
        return []
    return [
        (
            f"the source alone gives {_figure(report['source_only_floor'])} of right answers: a method near that may have learnt "
            "laboratories, and no more"
        )
    ]


def _figure(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{100 * row['figure']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
