"""Writing simulated frames to a folder, with a manifest."""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2

from smear_simulator.confound import Confound
from smear_simulator.errors import SettingError, SimulatorError
from smear_simulator.field import Field
from smear_simulator.microscope import Microscope
from smear_simulator.patient import population

COLUMNS = (
    "path", "sha256", "source", "label", "patient", "group", "parent", "stage_x_um", "stage_y_um",
    "pixel_size_um", "width", "height", "seed", "licence",
)  # fmt: skip
_NOTICE = (
    "SIMULATED\n\nEvery image in this folder was drawn by a program. No picture here is of a patient, and no\n"
    "figure from it says how a model does on real smears. manifest.csv has one row an image.\n"
)


def write_dataset(
    directory: Path | str,
    *,
    patients: int,
    frames: int,
    seed: int,
    width: int = 640,
    height: int = 480,
    progress: Callable[[int, int], None] | None = None,
    confound: Confound | None = None,
) -> Path:
    """Render simulated frames into a folder.

    Args:
        directory: Created if missing; gets ``images/``, ``manifest.csv`` and ``SIMULATED.txt``.
        patients: How many patients; classes are balanced.
        frames: How many frames of each.
        seed: The same seed writes the same files.
        width: Frame width in pixels.
        height: Frame height in pixels.
        progress: Called with (frames done, frames in all) after each frame.
        confound: A fault to plant, for audits that must find it; none by default.

    Returns:
        Path of the manifest. No path in it tells a label.

    Raises:
        SettingError: If a number is outside its range.
        SimulatorError: If a file cannot be written.
    """
    if frames < 1:
        message = f"cannot write {frames} frames a patient; ask for one or more"
        raise SettingError(message)
    root = Path(directory)
    total = patients * frames
    rows: list[dict[str, object]] = []
    people = population(patients, seed=seed)
    if confound is not None:
        people = [confound.plant(patient) for patient in people]
    try:
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "SIMULATED.txt").write_text(_NOTICE, encoding="utf-8")
        for patient in people:
            microscope = Microscope(patient, width=width, height=height, seed=seed)
            for number in range(frames):
                field = microscope.capture()
                microscope.next_field()
                name = f"images/{patient.patient_id}-{number:03d}.jpg"
                digest = _write_jpeg(root / name, field)
                rows.append(_row(name, digest, field, seed=patient.seed))
                if progress is not None:
                    progress(len(rows), total)
        return _write_manifest(root / "manifest.csv", rows)
    except OSError as error:
        message = f"cannot write the simulated frames to {root}: {error}; check the folder's permissions and free space"
        raise SimulatorError(message) from error


def _write_jpeg(path: Path, field: Field) -> str:
    done, data = cv2.imencode(".jpg", field.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        message = f"OpenCV could not encode {path.name} as JPEG; check the OpenCV installation"
        raise SimulatorError(message)
    content = data.tobytes()
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _row(name: str, digest: str, field: Field, *, seed: int) -> dict[str, object]:
    height, width = field.image.shape[:2]
    return {
        "path": name,
        "sha256": digest,
        "source": "simulated",
        "label": field.truth.disease,
        "patient": field.patient_id,
        "group": field.patient_id,
        "parent": "",
        "stage_x_um": f"{field.stage_x_um:.2f}",
        "stage_y_um": f"{field.stage_y_um:.2f}",
        "pixel_size_um": field.pixel_size_um,
        "width": width,
        "height": height,
        "seed": seed,
        "licence": "Apache-2.0",
    }


def _write_manifest(path: Path, rows: list[dict[str, object]]) -> Path:
    half_written = path.with_suffix(".csv.partial")
    with half_written.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    half_written.replace(path)
    return path
