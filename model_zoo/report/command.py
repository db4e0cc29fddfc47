"""`hemolink model evaluate`: figures in the terminal, or the whole report."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from model_zoo.command_errors import clear_errors
from model_zoo.datasets.progress import Steps

if TYPE_CHECKING:
    from model_zoo.card import Metrics
    from model_zoo.predictor import Predictor

_folder = click.Path(file_okay=False, path_type=Path)
_FEWEST: Final = 4


@click.command()
@click.option("--model", "name", required=True, help="Name or folder of a package.")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="A manifest.csv, or its folder: writes the whole report to --out.",
)
@click.option("--out", type=_folder, help="Folder of the report: one page, and its tables as CSV and JSON.")
@click.option(
    "--explanations",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="Frames on which the activation maps are checked, 4 or more; 0 for none.",
)
@click.option(
    "--strange",
    type=click.IntRange(0),
    default=40,
    show_default=True,
    help="Frames to make blank, blurred and wrongly magnified ones of; 0 for none.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every choice.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="A manifest.csv, or its folder: figures only, no report."
)
@click.option("--run", type=_folder, help="Figures on the test part of this run, with the baseline.")
@click.option("--frames", "frames_folder", type=_folder, help="The run's frames, if not in its folder.")
@click.option("--engine", type=click.Choice(["auto", "openvino", "torch", "onnxruntime"]), default="auto")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON document on standard output.")
def evaluate(
    *,
    name: str,
    manifest: Path | None,
    out: Path | None,
    explanations: int,
    strange: int,
    seed: int,
    data: Path | None,
    run: Path | None,
    frames_folder: Path | None,
    engine: str,
    precision: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Evaluate a package on labelled frames.

    With --manifest and --out: one self-contained page with confusion matrix, figures by class, ROC, calibration,
    referring, sources, activation maps that were checked, and what all this cannot show; the tables as CSV and JSON beside
    it. Rows without a label are counted as reported or referred only.

    With --data, figures in the terminal only. With --run, likewise on that run's test patients, and the baseline (random
    forest on colour and texture features, trained on the run's training patients) stands in the same table.
    """
    if sum(given is not None for given in (manifest, data, run)) != 1:
        raise click.UsageError("say one of --manifest MANIFEST --out DIR, --data MANIFEST and --run RUN")
    if (manifest is None) != (out is None):
        raise click.UsageError("--manifest and --out go together: the report has to be written somewhere")
    if 0 < explanations < _FEWEST:
        raise click.UsageError(f"--explanations takes {_FEWEST} frames or more, or 0 for none")
    from model_zoo.catalogue import find_package  # noqa: PLC0415
    from model_zoo.evaluation import format_table  # noqa: PLC0415
    from model_zoo.predictor import Predictor  # noqa: PLC0415

    with clear_errors():
        chosen = find_package(name)
        predictor = Predictor(chosen, engine=engine, precision=precision)  # type: ignore[arg-type]
        predictor.start()
        try:
            if manifest is not None and out is not None:
                with Steps(sys.stderr, hidden=quiet) as steps:
                    answer = _report(
                        predictor, manifest, out, steps, explanations=explanations, strange=strange, seed=seed
                    )
                click.echo(json.dumps(answer) if as_json else _described(answer))
                return
            if data is not None:
                metrics = _evaluate_manifest(predictor, data)
            else:
                metrics = _evaluate_run(predictor, Path(str(run)), frames_folder)
        finally:
            predictor.stop()
    if as_json:
        head = {"model": chosen.name, "version": chosen.version, "engine": predictor.engine_name}
        click.echo(json.dumps({**head, **metrics.model_dump(mode="json")}))
    else:
        click.echo(format_table(metrics, name=chosen.name))


def _report(
    predictor: "Predictor", manifest: Path, out: Path, steps: Steps, **choices: int
) -> dict[str, Any]:
    from model_zoo.report.files import write_report  # noqa: PLC0415
    from model_zoo.report.run import evaluate_manifest  # noqa: PLC0415

    report = evaluate_manifest(predictor, manifest, **choices, progress=steps.step)
    try:
        names = write_report(out, report)
    except OSError as error:
        raise click.ClickException(
            f"{out} cannot be written ({error.strerror}): choose another --out"
        ) from error
    return {**report.document, "page": str(out / names[0]), "files": names}


def _described(found: dict[str, Any]) -> str:
    outcomes, sets = found["outcomes"], found["prediction_sets"]
    told = [found["metrics"]["statement"], found["sources"]["statement"], found["left_out"]["statement"]]
    lines = [*filter(None, told), ""]
    for key, title in (
        ("accuracy", "right if every frame were answered"),
        ("referred", "referred to a person"),
        ("reported_wrong", "reported and wrong"),
        ("right_among_reported", "right among the reported"),
        ("acute_missed", "acute leukaemia reported as not acute"),
    ):
        lines.append(f"{title:<44}{_figure(outcomes[key]['value'], outcomes[key]['bootstrap'])}")
    row = found["reliability"]
    lines += [
        (
            f"{'prediction set holds the truth':<44}{_figure(sets['coverage']['value'], sets['coverage']['bootstrap'])}, "
            f"target {100 * sets['target']:.1f}"
        ),
        f"{'calibration error':<44}{_figure(row['expected_calibration_error'], row['interval'])}",
    ]
    if found["guard"]:
        lines += [
            f"{row['kind'] + ', let in':<44}{_figure(row['let_in']['value'], [row['let_in']['low'], row['let_in']['high']])}, AUROC "
            f"{row['auroc']['value']:.4f} ({row['auroc']['low']:.3f} to {row['auroc']['high']:.3f})"
            for row in found["guard"]["outside"]
        ]
    lines += [
        f"{part['source'] + ', referred':<44}{_figure(part['referred']['value'], part['referred']['bootstrap'])} of "
        f"{part['frames']}"
        for part in found["per_source"]
    ]
    return "\n".join([*lines, "", found["expectation"], "", f"page: {found['page']}"])


def _figure(value: float | None, interval: list[float]) -> str:
    if value is None:
        return "no frame"
    return f"{100 * value:5.1f} % ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def _evaluate_manifest(predictor: "Predictor", data: Path) -> "Metrics":
    import numpy as np  # noqa: PLC0415

    from model_zoo.datasets.manifest import load_image, patient_groups, read_manifest  # noqa: PLC0415
    from model_zoo.evaluation import collect, measure  # noqa: PLC0415
    from model_zoo.labels import LABELS  # noqa: PLC0415
    from model_zoo.report.seen import unseen  # noqa: PLC0415

    rows = read_manifest(data)
    left = unseen(rows, predictor.package.card)
    if left.statement:
        click.echo(left.statement, err=True)
    rows = [rows[index] for index in left.kept]
    images = (predictor.prepare(load_image(row)) for row in rows)
    return measure(
        collect(predictor, images),
        np.asarray([LABELS.index(row.label) for row in rows], np.int64),
        patient_groups(rows),
        card=predictor.package.card,
        detector=predictor.detector,
        engine=predictor.engine_name,
        simulated=all(row.source.startswith("simulated") for row in rows),
    )


def _evaluate_run(predictor: "Predictor", run: Path, frames_folder: Path | None) -> "Metrics":
    from model_zoo.baseline import baseline_accuracy  # noqa: PLC0415
    from model_zoo.evaluation import collect, measure  # noqa: PLC0415
    from model_zoo.packaging import load_run  # noqa: PLC0415
    from model_zoo.store import FrameStore  # noqa: PLC0415
    from model_zoo.training_commands import FRAMES  # noqa: PLC0415

    store = FrameStore.open(frames_folder or run / FRAMES)
    _, split, _ = load_run(run)
    images = (predictor.prepare(store.pixels[index]) for index in split.test.tolist())
    return measure(
        collect(predictor, images),
        store.labels[split.test],
        store.groups[split.test],
        card=predictor.package.card,
        detector=predictor.detector,
        engine=predictor.engine_name,
        simulated=store.simulated,
        baseline=baseline_accuracy(store, split)[0],
    )
