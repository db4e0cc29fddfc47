"""Reviewed frames as a manifest that a model can be trained on: `hemolink dashboard export-labels`.

Only what stands in a signed version counts, and of each case only the latest. A frame is listed under the class that a reader
gave it; frames that a reader called not assessable are left out, and so is a frame that nobody gave a class, unless the
case's conclusion is asked for: that says of which disease the patient is, not what this field shows, and its label source
says so. Readers are named by a code, not by their login; cases by their opaque code.

The columns are those of `hemolink model manifest`: path, sha256, source (the site), label, subtype, label_source, patient
(the clinic's opaque patient code, or else the case), group (the case), so that a split never parts a patient.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from broker_config.messages import CLASSES
from broker_config.process import write_durably
from clinician_dashboard.errors import DashboardError
from clinician_dashboard.record.images import ImageStore
from clinician_dashboard.record.tables import FrameRow
from clinician_dashboard.review.signed import SignedVersion, from_row
from clinician_dashboard.review.tables import ReviewRow, SignedVersionRow

COLUMNS = (
    *("path", "sha256", "source", "label", "subtype", "label_source", "patient", "group"),
    *("width", "height", "licence", "simulated", "signed_version_sha256"),
)
SUFFIX = {"jpeg": "jpg", "png": "png", "webp": "webp"}
MANIFEST = "manifest.csv"
LICENCE = "clinic's own: agree on its use before it leaves the clinic"


class ExportError(DashboardError):
    """Raised when reviewed frames cannot be exported."""


class Readable(Protocol):
    """A record that can be read."""

    def session(self) -> Session:
        """Return a new session for reading."""
        ...


@dataclass
class Exported:
    """What an export did.

    Attributes:
        rows: Frames listed.
        by_label: How many of each class.
        cases: Signed cases looked at.
        not_assessable: Frames left out because a reader called them so.
        unlabelled: Frames left out because nobody gave them a class.
        conflicts: Images that two signed cases give different classes; left out.
        missing: Images that are not in the record's folder; left out.
        changed: Signed versions that are not what was signed any more; left out, and a fault.
    """

    rows: int = 0
    by_label: Counter[str] = field(default_factory=Counter)
    cases: int = 0
    not_assessable: int = 0
    unlabelled: int = 0
    conflicts: int = 0
    missing: int = 0
    changed: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain fields."""
        return {**vars(self), "by_label": dict(self.by_label)}


def reader_code(login: str) -> str:
    """Return the code of a reader: the same for the same login, and not the login."""
    return f"reader-{hashlib.sha256(login.encode()).hexdigest()[:8]}"


def export_labels(
    record: Readable,
    images: ImageStore,
    out: Path,
    *,
    reference: bool = False,
    conclusions: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _whole: None,
) -> Exported:
    """Write ``out``/manifest.csv, and the images beside it.

    Args:
        record: To read.
        images: Its images.
        out: A folder; made if missing. The manifest is written last.
        reference: Name the images where they lie instead of copying them.
        conclusions: List frames that nobody gave a class under their case's conclusion.
        progress: Called with how many cases are done, and how many there are.

    Raises:
        ExportError: If the folder cannot be written.
    """
    done = Exported()
    rows: dict[str, dict[str, Any]] = {}
    clashing: set[str] = set()
    with record.session() as session:
        whole = session.scalar(select(func.count(SignedVersionRow.case_id.distinct()))) or 0
        for version, patient in _latest(session):
            done.cases += 1
            if not version.genuine:
                done.changed.append(f"{version.site}/{version.code}, version {version.version}")
            else:
                for row in _rows(session, version, patient, conclusions=conclusions, done=done):
                    before = rows.setdefault(row["sha256"], row)
                    if before["label"] != row["label"]:
                        clashing.add(row["sha256"])
            progress(done.cases, whole)
    done.conflicts = len(clashing)
    try:
        kept = _keep(
            [row for sha256, row in rows.items() if sha256 not in clashing], images, out, reference=reference
        )
        done.missing = len(rows) - len(clashing) - len(kept)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        write_durably(out / MANIFEST, text.getvalue().encode())
    except OSError as error:
        raise ExportError(
            f"{out}: the labels cannot be written ({error.strerror or error}): choose a folder with room that you may write"
        ) from None
    done.rows = len(kept)
    done.by_label = Counter(row["label"] for row in kept)
    return done


def _latest(session: Session) -> Iterator[tuple[SignedVersion, str]]:
    newest = (
        select(SignedVersionRow.case_id, func.max(SignedVersionRow.version).label("version"))
        .group_by(SignedVersionRow.case_id)
        .subquery()
    )
    found = session.execute(
        select(SignedVersionRow, ReviewRow.patient_code)
        .join(
            newest,
            and_(newest.c.case_id == SignedVersionRow.case_id, newest.c.version == SignedVersionRow.version),
        )
        .outerjoin(ReviewRow, ReviewRow.case_id == SignedVersionRow.case_id)
        .order_by(SignedVersionRow.id)
        .execution_options(yield_per=50)
    )
    for row, patient in found:
        yield from_row(row), patient or ""


def _rows(
    session: Session, version: SignedVersion, patient: str, *, conclusions: bool, done: Exported
) -> Iterator[dict[str, Any]]:
    case = f"{version.site}/{version.code}"
    shapes = {
        row.frame_id: row
        for row in session.execute(
            select(
                FrameRow.frame_id, FrameRow.encoding, FrameRow.width, FrameRow.height, FrameRow.simulated
            ).where(FrameRow.case_id == version.case_id)
        )
    }
    for frame in version.frames:
        label, source = frame.label, f"{reader_code(frame.labelled_by)}/frame"
        subtype = ""
        if label and label not in CLASSES:
            done.not_assessable += 1
            continue
        if not label and conclusions and version.conclusion in CLASSES and frame.state == "report":
            label, source = version.conclusion, f"{reader_code(version.signer)}/case"
        if label == version.conclusion:
            subtype = version.finer
        shape = shapes.get(frame.frame_id)
        if not label or shape is None:
            done.unlabelled += 1
            continue
        yield {
            "sha256": frame.image_sha256,
            "source": version.site,
            "label": label,
            "subtype": subtype,
            "label_source": source,
            "patient": f"{version.site}/{patient}" if patient else case,
            "group": case,
            "width": shape.width,
            "height": shape.height,
            "licence": LICENCE,
            "simulated": "yes" if shape.simulated else "no",
            "signed_version_sha256": version.sha256,
            "encoding": shape.encoding,
        }


def _keep(
    rows: list[dict[str, Any]], images: ImageStore, out: Path, *, reference: bool
) -> list[dict[str, Any]]:
    """Put the images where the manifest names them; returns the rows whose image is there."""
    folder = out / "images"
    (out if reference else folder).mkdir(parents=True, exist_ok=True)
    kept = []
    for row in rows:
        source = images.path(row["sha256"])
        try:
            if reference:
                source.stat()
                path = str(source.absolute())
            else:
                name = f"{row['sha256']}.{SUFFIX[row['encoding']]}"
                content = source.read_bytes()
                if hashlib.sha256(content).hexdigest() != row["sha256"]:
                    continue  # `hemolink dashboard verify` names it
                write_durably(folder / name, content)
                path = f"images/{name}"
        except FileNotFoundError:
            continue
        kept.append({**row, "path": path})
    return kept
