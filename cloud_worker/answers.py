"""What the worker says of a frame: the diagnosis, or the dead letter, and the receipt that tells the edge."""

import hashlib
import logging
from collections.abc import Collection

from broker_config.delivery import Publication, publication
from broker_config.messages import ModelIdentity, Receipt, ReceiptStatus, Rejection, now
from broker_config.topics import Topics
from cloud_worker import diagnosis
from cloud_worker.dead_letters import DeadLetters
from cloud_worker.desk_stops import DeskStops
from cloud_worker.errors import FrameRejected
from cloud_worker.job import Job
from cloud_worker.journal import Leftover
from cloud_worker.publishing import Outcome
from cloud_worker.suspects import DEATHS_ALONE
from model_zoo.predictor import Prediction

logger = logging.getLogger(__name__)

_MAX_REASON = 2000


class Answers:
    """Composes what is published about a job. Any thread may call any method.

    Args:
        topics: Topic names.
        worker: This worker's name.
        dead_letters: Where payloads that could not be diagnosed are put away.
        ignored_flags: Flags of the edge's quality gate that do not refer.
        stops: Which model versions the desk has stopped.

    Attributes:
        model: Which model speaks; set before anything is composed.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        worker: str,
        dead_letters: DeadLetters,
        stops: DeskStops,
        ignored_flags: Collection[str] = (),
    ) -> None:
        self._topics = topics
        self._worker = worker
        self._dead_letters = dead_letters
        self._stops = stops
        self._ignored_flags = frozenset(ignored_flags)
        self.model: ModelIdentity | None = None

    def diagnosis(self, job: Job, prediction: Prediction) -> Outcome:
        """Return the diagnosis of a job, or its dead letter if the model's answer is none."""
        assert self.model is not None  # noqa: S101 - set before anything is taken
        try:
            message = diagnosis.assemble(
                job,
                prediction,
                model=self.model,
                worker=self._worker,
                ignored_flags=self._ignored_flags,
                more=self._stops.reasons,
            )
        except FrameRejected as error:
            return self.rejection(job, error)
        logger.info(
            "%s, %s",
            message.prediction,
            message.decision,
            extra={"frame_id": message.frame_id, "case": message.case},
        )
        return Outcome(
            job,
            publication(self._topics.diagnosis(message.site, message.device), message),
            self.receipt(job, "diagnosed"),
        )

    def rejection(self, job: Job, error: FrameRejected) -> Outcome:
        """Return the dead letter of a job, its payload put away."""
        payload = job.message.payload
        sha256 = job.sha256 or hashlib.sha256(payload).hexdigest()
        message = diagnosis.reject(job, error, worker=self._worker, payload_sha256=sha256)
        logger.warning(
            "rejected (%s): %s", error.code, error, extra={"frame_id": message.frame_id, "case": message.case}
        )
        self._dead_letters.keep(payload, message, topic=job.message.topic if job.topic else "")
        return Outcome(
            job,
            publication(self._topics.rejected(message.site, message.device), message),
            self.receipt(job, "rejected", reason=f"{error.code}: {error}"),
            rejected=error.code,
        )

    def posthumous(self, frame: Leftover, error: FrameRejected) -> tuple[Publication, Publication]:
        """Return dead letter and receipt of a frame whose payload died with the process that had it; its edge has it."""
        message = Rejection(
            frame_id=frame.frame_id,
            site=frame.site,
            device=frame.device,
            sequence=frame.sequence,
            code=error.code,
            reason=str(error)[:_MAX_REASON],
            attempts=DEATHS_ALONE,
            payload_sha256=frame.sha256,
            by=self._worker,
            at=now(),
        )
        logger.warning("rejected (%s): %s", error.code, error, extra={"frame_id": frame.frame_id})
        topic = self._topics.frame(frame.site, frame.device, "routine")
        self._dead_letters.keep(None, message, topic=topic)
        receipt = self.receipt_for(
            frame.frame_id,
            site=frame.site,
            device=frame.device,
            status="rejected",
            reason=f"{error.code}: {error}",
        )
        return publication(self._topics.rejected(frame.site, frame.device), message), receipt

    def receipt(self, job: Job, status: ReceiptStatus, *, reason: str = "") -> Publication | None:
        """Return the receipt for a job; none where nobody can be told."""
        if job.frame_id is None or job.topic is None:
            return None
        # To the device on whose topic it came, whatever the frame claims.
        return self.receipt_for(
            job.frame_id, site=job.topic.site, device=job.topic.device, status=status, reason=reason
        )

    def receipt_for(
        self, frame_id: str, *, site: str, device: str, status: ReceiptStatus, reason: str = ""
    ) -> Publication:
        """Return a receipt."""
        receipt = Receipt(
            frame_id=frame_id, status=status, reason=reason[:_MAX_REASON], by=self._worker, at=now()
        )
        return publication(self._topics.receipt(site, device), receipt)
