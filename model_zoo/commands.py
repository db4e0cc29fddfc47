"""`hemolink model`: what there is to do with model packages, from images to a verified one.

Heavy imports stand inside the functions, so that `--help` costs nothing and a worker needs no torch.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from model_zoo.audit.command import audit
from model_zoo.audit.compare_command import compare
from model_zoo.command_errors import clear_errors
from model_zoo.datasets.command import manifest
from model_zoo.distillation_command import distil
from model_zoo.guard_command import guard_check
from model_zoo.packaging_command import package
from model_zoo.report.command import evaluate
from model_zoo.study.command import study
from model_zoo.training_commands import train, weights
from model_zoo.transfer_command import transfer

if TYPE_CHECKING:
    from model_zoo.predictor import Prediction, Predictor

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MAX_BYTES: Final = 256_000_000
DEFAULT_MODEL: Final = "resnet34-simulated"

_search = click.option(
    "--path",
    "search_path",
    type=click.Path(file_okay=False, path_type=Path),
    multiple=True,
    help="A folder with model packages, beside the shipped ones; may be repeated.",
)
_as_json = click.option(
    "--json", "as_json", is_flag=True, help="End with one JSON document on standard output."
)


@click.group()
def model() -> None:
    """List, use, train and verify model packages."""


model.add_command(manifest)
model.add_command(audit)
model.add_command(compare)
model.add_command(study)
model.add_command(train)
model.add_command(weights)
model.add_command(distil)
model.add_command(transfer)
model.add_command(evaluate)
model.add_command(package)
model.add_command(guard_check)


@model.command(name="list")
@_search
@_as_json
def list_command(search_path: tuple[Path, ...], *, as_json: bool) -> None:
    """List the model packages there are, damaged ones with the reason."""
    from model_zoo.catalogue import package_folders  # noqa: PLC0415
    from model_zoo.errors import PackageError  # noqa: PLC0415
    from model_zoo.package import ModelPackage  # noqa: PLC0415

    rows: list[dict[str, Any]] = []
    for folder in package_folders(search_path):
        try:
            found = ModelPackage.load(folder)
        except PackageError as error:
            rows.append({"name": folder.name, "path": str(folder), "usable": False, "error": str(error)})
            continue
        metrics = found.card.metrics
        rows.append(
            {
                "name": found.name,
                "version": found.version,
                "path": str(folder),
                "usable": True,
                "error": None,
                "architecture": found.card.architecture,
                "labels": list(found.labels),
                "simulated": found.card.simulated,
                "weights_sha256": found.weights_sha256,
                "training_data": found.card.training_data.statement,
                "macro_accuracy": metrics.macro_accuracy.model_dump() if metrics else None,
            }
        )
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("no model package found: train one (hemolink model train), or name a folder with --path")
    for row in rows:
        click.echo(_described(row))


def _described(row: dict[str, Any]) -> str:
    if not row["usable"]:
        return f"{row['name']}: NOT USABLE: {row['error']}"
    accuracy = row["macro_accuracy"]
    figure = (
        f"macro accuracy {100 * accuracy['value']:.1f} % "
        f"({100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f})"
        if accuracy
        else "not measured"
    )
    mark = ", SIMULATED" if row["simulated"] else ""
    return f"{row['name']} {row['version']} ({row['architecture']}): {figure}{mark}\n  {row['training_data']}"


@model.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model", "name", default=DEFAULT_MODEL, show_default=True, help="Name or folder of a package."
)
@_search
@click.option(
    "--engine",
    type=click.Choice(["auto", "openvino", "torch", "onnxruntime"]),
    default="auto",
    show_default=True,
    help="Inference engine.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Number format; auto is the fastest that is safe.",
)
@_as_json
def predict(
    images: tuple[Path, ...],
    name: str,
    search_path: tuple[Path, ...],
    engine: str,
    precision: str,
    *,
    as_json: bool,
) -> None:
    """Classify IMAGES (files, or folders of them).

    A file that cannot be read gets an entry with the reason, the others are classified all the same; the exit code
    is then 1.
    """
    from model_zoo.catalogue import find_package  # noqa: PLC0415
    from model_zoo.predictor import Predictor  # noqa: PLC0415

    with clear_errors():
        chosen = find_package(name, search_path)
        predictor = Predictor(chosen, engine=engine, precision=precision)  # type: ignore[arg-type]
        predictor.start()
    entries: list[dict[str, Any]] = []
    paths = list(_files(images))
    try:
        for first in range(0, len(paths), predictor.max_batch_size):
            for entry in _batch(predictor, paths[first : first + predictor.max_batch_size]):
                entries.append(entry)
                if not as_json:
                    click.echo(_line(entry), err=entry["error"] is not None)
    finally:
        predictor.stop()
    if as_json:
        click.echo(json.dumps(entries))
    else:
        click.echo(f"{chosen.name}: {chosen.card.training_data.statement}", err=True)
    if any(entry["error"] is not None for entry in entries):
        raise SystemExit(1)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
            # the folder itself then gets the entry with the reason
            yield from found or [path]
        else:
            yield path


def _batch(predictor: "Predictor", paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    from model_zoo.errors import ImageError  # noqa: PLC0415
    from model_zoo.image import decode_image  # noqa: PLC0415

    inputs, faults = {}, {}
    for position, path in enumerate(paths):
        try:
            inputs[position] = predictor.prepare(decode_image(_read(path)))
        except (ImageError, OSError) as error:
            faults[position] = f"{path}: {_reason(error)}"
    answers: dict[int, Prediction] = {}
    if inputs:
        with clear_errors():
            answers = dict(zip(inputs, predictor.infer(list(inputs.values())), strict=True))
    for position, path in enumerate(paths):
        yield _entry(path, predictor.package.name, answers.get(position), faults.get(position), predictor)


def _read(path: Path) -> bytes:
    from model_zoo.errors import ImageError  # noqa: PLC0415

    if path.is_dir():
        raise ImageError(
            f"this folder holds no image ({', '.join(sorted(SUFFIXES))}), and folders inside are not searched: name the folders or files "
            "themselves, other formats saved as PNG"
        )
    if path.exists() and not path.is_file():
        raise ImageError("it is a folder or a device, not a file: name image files")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ImageError(
            f"the file has {size:,} bytes, more than the limit of {MAX_BYTES:,}: send single frames"
        )
    return path.read_bytes()


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file: check the path"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror}): check the file and its permissions"
    return str(error)


def _entry(
    path: Path, name: str, answer: "Prediction | None", fault: str | None, predictor: "Predictor"
) -> dict[str, Any]:
    labels = predictor.package.labels
    return {
        "path": str(path),
        "probabilities": dict(zip(labels, answer.probabilities, strict=True)) if answer else None,
        "prediction": answer.prediction if answer else None,
        "prediction_set": list(answer.prediction_set) if answer else None,
        "decision": answer.decision if answer else None,
        "reasons": list(answer.reasons) if answer else [],
        "finer": asdict(answer.finer) if answer and answer.finer else None,
        "activation_absent": answer.activation_absent if answer else "",
        "ood_score": answer.ood_score if answer else None,
        "ood_threshold": answer.ood_threshold if answer else None,
        "model": f"{name} {predictor.package.version}",
        "engine": predictor.engine_name,
        "simulated": predictor.package.card.simulated,
        "error": fault,
    }


def _line(entry: dict[str, Any]) -> str:
    if entry["error"] is not None:
        return f"ERROR {entry['error']}"
    top = entry["probabilities"][entry["prediction"]]
    text = f"{entry['path']}: {entry['prediction']} ({100 * top:.1f} %), {entry['decision']}"
    finer = entry["finer"]
    below = []
    if finer is not None:
        shares = ", ".join(f"{path} {100 * p:.1f} %" for path, p in finer["probabilities"].items())
        below = [
            f"certain down to {finer['label']} ({shares})",
            *([finer["alert"]] if finer["alert"] else []),
        ]
    return "\n    ".join([text, *below, *entry["reasons"]])


@model.command()
@click.argument("names", nargs=-1)
@_search
@_as_json
def verify(names: tuple[str, ...], search_path: tuple[Path, ...], *, as_json: bool) -> None:
    """Verify model packages by NAME or folder; all that there are otherwise.

    Compares hashes, refuses pickles, looks where the graph points, and compares the installed engines at fp32.
    """
    from model_zoo.catalogue import package_folders  # noqa: PLC0415
    from model_zoo.verification import verify_package  # noqa: PLC0415

    folders = list(package_folders(search_path))
    chosen = [_folder(name, folders) for name in names] if names else folders
    results = []
    for folder in chosen:
        checks = verify_package(folder)
        passed = all(check.passed for check in checks)
        results.append(
            {
                "name": folder.name,
                "path": str(folder),
                "passed": passed,
                "checks": [{"name": c.name, "passed": c.passed, "message": c.message} for c in checks],
            }
        )
        if not as_json:
            click.echo(f"{folder.name}: {'verified' if passed else 'FAILED'}")
            for check in checks:
                click.echo(f"  {'ok  ' if check.passed else 'FAIL'} {check.name}: {check.message}")
    if as_json:
        click.echo(json.dumps(results))
    if not results:
        raise click.ClickException("no model package found: name a folder")
    if not all(result["passed"] for result in results):
        raise SystemExit(1)


def _folder(name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if folder.name == name:
            return folder
    return Path(name)
