"""The record's only writer: applies a batch of messages in one transaction.

Applying the same message again changes nothing but a counter, so at-least-once delivery ends as once in the record.
The images of a batch are durable before its transaction begins: a process that dies in between leaves files that no row
names. They are adopted when the frame comes again, and found by ``hemolink dashboard verify``.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from broker_config.device_messages import DeviceState
from broker_config.fleet_messages import WorkerState
from broker_config.messages import Diagnosis, Frame, Message, Rejection, now
from clinician_dashboard.errors import ConflictingContent, UnusableMessage
from clinician_dashboard.record.batch import Batch
from clinician_dashboard.record.case_summary import refresh_cases
from clinician_dashboard.record.changes import Applied
from clinician_dashboard.record.database import Record
from clinician_dashboard.record.entries import enter_diagnosis, enter_frame, enter_rejection
from clinician_dashboard.record.ledger import Ledger
from clinician_dashboard.record.presence import Heard, believe, take
from clinician_dashboard.record.tables import CaseRow, DeviceRow, DiagnosisRow, FrameRow, WorkerRow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Malformed:
    """A message that could not be used, to be counted.

    Attributes:
        code: A short stable reason.
        detail: One sentence for a person.
        kind: Of the topic that it came on.
    """

    code: str
    detail: str
    kind: str = "unknown"


Item = Message | Malformed | Heard

Follower = Callable[[Session, Sequence[CaseRow], datetime], None]
"""Takes in what a batch did to its cases, whose columns are computed already."""


MAX_FLEET = 10_000
"""Devices, and workers, that may be known; whoever may publish could otherwise invent names for ever."""


def kind_of(item: Item) -> str:
    """Return the kind of a message, for counters."""
    return item.state.kind if isinstance(item, Heard) else item.kind


class RecordWriter:
    """Applies messages. Use it from one thread, and one of it on a record.

    Args:
        record: An open record.
        pending_frames: Most frames kept while they wait for a diagnosis.
        pending_diagnoses: Most diagnoses kept while they wait for their image.
        clock: Returns the present time in UTC.
        followers: Called at the end of each batch, within its transaction, with the cases that it changed.
    """

    def __init__(
        self,
        record: Record,
        *,
        pending_frames: int = 20_000,
        pending_diagnoses: int = 20_000,
        clock: Callable[[], datetime] = now,
        followers: Sequence[Follower] = (),
    ) -> None:
        self._record = record
        self._followers = followers
        self._pending_frames = pending_frames
        self._pending_diagnoses = pending_diagnoses
        self._clock = clock
        self._ledger = Ledger(clock=clock)

    def apply(self, items: Sequence[Item]) -> Applied:
        """Apply ``items`` and commit once: in order, and the diagnoses last.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: If the database refuses; nothing of the batch is in the record.
            OSError: If an image cannot be kept; nothing of the batch is in the record.
        """
        try:
            with self._record.transaction() as session, session.no_autoflush:
                batch = Batch(session, at=self._clock())
                batch.read(items)
                damaged = self._keep_images(batch, items)
                # A frame that is there when its diagnosis comes is written once; the other way round twice.
                for item in sorted(items, key=lambda item: isinstance(item, Diagnosis)):
                    self._apply_one(batch, item, damaged)
                session.flush()
                unused = self._trim(batch)
                batch.note_life(batch.seen_rows())
                batch.days.write(session, at=batch.at)
                self._ledger.write(session)
                refresh_cases(session, batch.touched.values(), at=batch.at)
                for follow in self._followers:
                    follow(session, list(batch.touched.values()), batch.at)
        except BaseException:
            self._ledger.forget()
            raise
        batch.applied.cases |= set(batch.touched)
        for sha256 in unused:
            self._remove_image(sha256)
        return batch.applied

    def _keep_images(self, batch: Batch, items: Sequence[Item]) -> set[str]:
        """Keep the images of the frames that are new; return the hashes that their image does not match."""
        fresh = {
            item.image_sha256: item.image
            for item in items
            if isinstance(item, Frame) and item.frame_id not in batch.frames
        }
        return self._record.images.put_all(fresh)

    def _apply_one(self, batch: Batch, item: Item, damaged: set[str]) -> None:
        kind = kind_of(item)
        try:
            outcome = self._enter(batch, item, damaged)
        except ConflictingContent as conflict:
            logger.warning("refused: %s", conflict)
            if isinstance(item, Frame):
                batch.applied.refused.append((item.site, item.device, item.frame_id, str(conflict)))
            batch.tally("conflict", kind, str(conflict))
            outcome = "conflict"
        except UnusableMessage as unusable:
            batch.tally("malformed", unusable.code, str(unusable))
            outcome = unusable.code
        batch.applied.outcomes[kind, outcome] = batch.applied.outcomes.get((kind, outcome), 0) + 1

    def _enter(self, batch: Batch, item: Item, damaged: set[str]) -> str:
        match item:
            case Frame():
                if item.image_sha256 in damaged and item.frame_id not in batch.frames:
                    raise UnusableMessage(
                        f"frame {item.frame_id} from {item.site}/{item.device} does not match its own image_sha256: it was "
                        "damaged on its way; the edge sends it again",
                        code="image_hash_mismatch",
                    )
                return enter_frame(batch, item, self._ledger)
            case Diagnosis():
                return enter_diagnosis(batch, item, self._ledger)
            case Rejection():
                return enter_rejection(batch, item, self._ledger)
            case Heard():
                return self._state(batch, item)
            case DeviceState() | WorkerState():
                return self._state(batch, Heard(item))
            case Malformed():
                batch.tally("malformed", item.code, item.detail)
                return item.code
        raise UnusableMessage(f"a {item.kind} has no place in the record", code="unexpected_kind")

    def _state(self, batch: Batch, heard: Heard) -> str:
        state, session = heard.state, batch.session
        known: DeviceRow | WorkerRow | None
        if isinstance(state, DeviceState):
            known = session.get(DeviceRow, (state.site, state.device))
        else:
            known = session.get(WorkerRow, state.worker)
        if not believe(known, heard):
            batch.tally("stale_state", kind_of(heard))
            return "stale"
        reborn = known is not None and state.birth != known.birth
        if known is None:
            known = self._first_word_of(batch, state)
        take(known, heard, at=batch.at)
        if isinstance(state, DeviceState):
            self._ledger.declare(session, state, reborn=reborn)
        batch.applied.fleet = True
        session.flush()
        return "taken"

    def _first_word_of(self, batch: Batch, state: DeviceState | WorkerState) -> DeviceRow | WorkerRow:
        table = DeviceRow if isinstance(state, DeviceState) else WorkerRow
        if batch.count(table.birth.is_not(None)) >= MAX_FLEET:
            raise UnusableMessage(
                f"{MAX_FLEET} of its kind are known already: look for who invents names",
                code="too_many_devices" if isinstance(state, DeviceState) else "too_many_workers",
            )
        row = (
            DeviceRow(site=state.site, device=state.device)
            if isinstance(state, DeviceState)
            else WorkerRow(worker=state.worker)
        )
        batch.session.add(row)
        return row

    # Bounds

    def _trim(self, batch: Batch) -> set[str]:
        """Drop the oldest of what waits beyond its bound; return images that no row names any more."""
        session = batch.session
        unused: set[str] = set()
        waiting_frames = FrameRow.recorded_at.is_(None)
        excess = batch.count(waiting_frames) - self._pending_frames
        if excess > 0:
            oldest = select(FrameRow).where(waiting_frames).order_by(FrameRow.received_at).limit(excess)
            for frame in session.scalars(oldest).all():
                batch.touch(frame.case)
                unused.add(frame.image_sha256)
                session.delete(frame)
                batch.tally("pending_dropped", "frame", "no diagnosis came; the edge sends it again")
            session.flush()
            still = session.scalars(select(FrameRow.image_sha256).where(FrameRow.image_sha256.in_(unused)))
            unused -= set(still.all())
        waiting = DiagnosisRow.joined.is_(False)
        excess = batch.count(waiting) - self._pending_diagnoses
        if excess > 0:
            eldest = select(DiagnosisRow).where(waiting).order_by(DiagnosisRow.id).limit(excess)
            for diagnosis in session.scalars(eldest).all():
                session.delete(diagnosis)
                batch.tally("pending_dropped", "diagnosis", "its image never came")
        session.flush()
        return unused

    def _remove_image(self, sha256: str) -> None:
        path: Path = self._record.images.path(sha256)
        try:
            self._record.images.remove(sha256)
        except OSError as error:
            logger.warning("the unused image %s could not be removed (%s)", path.name, error.strerror)
