"""`hemolink model audit`: is what a figure would measure the disease?"""

import json
import sys
import time
from pathlib import Path
from shlex import quote
from typing import Any

import click

from model_zoo.datasets.progress import Steps


@click.command()
@click.option(
    "--manifest",
    "data",
    type=click.Path(path_type=Path),
    required=True,
    help="A manifest.csv, or its folder (hemolink model manifest writes one).",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("audit.html"),
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--copies",
    type=click.IntRange(1, 50),
    default=10,
    show_default=True,
    help="Augmented copies of each image.",
)
@click.option(
    "--null-images",
    type=click.IntRange(20),
    default=160,
    show_default=True,
    help="Images with random labels, one a group.",
)
@click.option(
    "--per-class",
    type=click.IntRange(10),
    default=120,
    show_default=True,
    help="Images of each class with real labels.",
)
@click.option(
    "--per-source",
    type=click.IntRange(10),
    default=200,
    show_default=True,
    help="Images of each source in the probes.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every choice.")
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that describe images."
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def audit(
    *,
    data: Path,
    out: Path,
    copies: int,
    null_images: int,
    per_class: int,
    per_source: int,
    seed: int,
    jobs: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Audit a data set before any network is trained on it.

    Random labels are learnt on the published path (augment, then split) and on the honest one (split by group, then
    augment): what is above chance there is memory. Real labels go down both paths. Probes try to tell the source from the
    whole image, from its background and without colour; the floor is what knowing the source gives; each source is left
    out where another has its class. One self-contained page, and the same as JSON.
    """
    from model_zoo.audit.page import write_page  # noqa: PLC0415 - scikit-learn and scikit-image take seconds
    from model_zoo.audit.run import AuditSettings, audit_rows  # noqa: PLC0415
    from model_zoo.datasets.manifest import manifest_path, read_manifest  # noqa: PLC0415
    from model_zoo.errors import ModelZooError  # noqa: PLC0415

    settings = AuditSettings(
        null_images=null_images,
        per_class=per_class,
        per_source=per_source,
        copies=copies,
        seed=seed,
        jobs=jobs,
    )
    started = time.monotonic()
    try:
        rows = read_manifest(data, unlabelled=True)
        with Steps(sys.stderr, hidden=quiet) as steps:
            found = audit_rows(rows, settings=settings, progress=steps.step)
        report = {
            **found.report,
            "manifest": str(manifest_path(data)),
            "page": str(out),
            "seconds": round(time.monotonic() - started, 1),
        }
        write_page(out, report, found.examples)
    except ModelZooError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be written ({error.strerror}): choose another --out"
        ) from error
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(_described(report))
        click.echo(f"next: hemolink model train --data {quote(str(data))} --run DIR")


def _described(report: dict[str, Any]) -> str:
    probe, floor = report["source_probe"], report["source_only_floor"]
    lines = ["SIMULATED"] if report["simulated"] else []
    lines += [
        f"{report['labelled']} labelled images in {report['groups']} groups from {len(report['sources'])} source(s)",
        "",
    ]
    for key, title in (("null_label", "random labels"), ("real_label", "real labels")):
        for path, words in (("leaky", "augment, then split"), ("honest", "split by group, then augment")):
            lines.append(f"{title:<14} {words:<30} {_figure(report[key][path])}")
        lines.append(f"{'':<14} {'chance':<30} {100 * report[key]['chance']:5.1f} %")
    if probe["figure"] is None:
        lines.append(f"source probe   not possible: {probe['reason']}")
    else:
        verdict = "FIRES" if probe["fires"] else "at chance"
        lines.append(
            f"source probe   {probe['target'] + ', by background':<30} AUC {_figure(probe)}: {verdict}"
        )
    lines.append(f"source alone   {'its most frequent class':<30} {_figure(floor)}")
    for row in report["leave_one_source_out"]:
        what = f"{row['class']}, without {row['left_out']}"
        lines.append(f"left out       {what:<30} {_figure(row) if row['identifiable'] else row['statement']}")
    return "\n".join([*lines, "", *report["statements"], "", f"page: {report['page']}"])


def _figure(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{100 * row['figure']:5.1f} % ({100 * low:.1f} to {100 * high:.1f}) {row['method']}"
