"""The dashboard daemon: session, ingest, record, receipts and web pages, started and stopped in order."""

import logging
import threading
from collections.abc import Sequence

from broker_config.process import announce_ports
from broker_config.session import Session, Subscription
from broker_config.topics import Topics
from clinician_dashboard.access.access import Access
from clinician_dashboard.access.door import FIRST_ADMIN
from clinician_dashboard.case_updates import CaseUpdates
from clinician_dashboard.delivery.post import Post
from clinician_dashboard.feed import Feed
from clinician_dashboard.ingest import Ingest
from clinician_dashboard.metrics import Metrics
from clinician_dashboard.model_stops import ModelStops
from clinician_dashboard.outbox.sender import OutboxSender
from clinician_dashboard.receipts import Receipts
from clinician_dashboard.record import Applied, Record, RecordReader, RecordWriter
from clinician_dashboard.review.follower import ReviewFollower
from clinician_dashboard.review.service import ReviewDesk
from clinician_dashboard.review.watch import ReviewWatch
from clinician_dashboard.settings import Settings
from clinician_dashboard.tiles import Pictures
from clinician_dashboard.web.app import create_app
from clinician_dashboard.web.context import Context
from clinician_dashboard.web.server import WebServer

logger = logging.getLogger(__name__)

RECEIVE_MAXIMUM = 256
ROLE = "dashboard"


class Dashboard:
    """One running dashboard.

    Args:
        settings: Validated settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topics(settings.broker.root)
        self._metrics = Metrics()
        self._feed = Feed()
        self._record = Record(
            settings.record_url,
            settings.directory,
            password=settings.read_database_password,
            tls=settings.read_database_tls,
        )
        self._follower = ReviewFollower(settings=settings.review, name=settings.name)
        updates = CaseUpdates(name=settings.name)
        self._post = Post(
            self._record,
            fhir=settings.fhir_push,
            mllp=settings.hl7_mllp,
            registry=self._metrics.registry,
            on_change=lambda: self._feed.publish("deliveries"),
        )
        writer = RecordWriter(
            self._record,
            pending_frames=settings.limits.pending_frames,
            pending_diagnoses=settings.limits.pending_diagnoses,
            followers=[self._follower, self._post.follow, updates],
        )
        self._ingest = Ingest(
            topics=self._topics,
            writer=writer,
            on_applied=self._on_applied,
            metrics=self._metrics,
            directory=settings.directory,
        )
        self._session = Session(
            settings.broker,
            client_id=f"{settings.broker.root}-{ROLE}-{settings.name}",
            subscriptions=[
                Subscription(topic_filter)
                for topic_filter in (
                    self._topics.all_frames(),
                    self._topics.all_of("diagnosis"),
                    self._topics.all_of("rejected"),
                    self._topics.all_of("state"),  # the workers' states too
                    self._topics.fleet_model(),
                )
            ],
            on_message=self._ingest.receive,
            # Under MQTT 5 the broker keeps what comes while this process restarts; the embedded broker's kept
            # sessions lose messages, so there the edge's resend is trusted instead.
            clean_start=settings.broker.protocol != "5",
            manual_ack=True,
            receive_maximum=RECEIVE_MAXIMUM,
            on_connected=lambda: self._models.connected(),  # noqa: PLW0108 - made below
        )
        self._receipts = Receipts(
            topics=self._topics, name=settings.name, publisher=lambda: self._session, metrics=self._metrics
        )
        self._pictures = Pictures(
            settings.directory / "cache" / "pictures", limit_bytes=settings.picture_cache_mb * 1_000_000
        )
        self.access = Access(self._record, settings.sign_in)
        """Users, sessions and tokens; of use once started."""
        self._outbox = OutboxSender(self._record, topics=self._topics, publisher=lambda: self._session)
        self._watch = ReviewWatch(
            self._record,
            settings=settings.review,
            name=settings.name,
            on_change=self._on_reviewed,
            on_escalated=self._metrics.escalated.inc,
        )
        self.review = ReviewDesk(
            self._record,
            settings=settings.review,
            name=settings.name,
            on_change=self._on_reviewed,
            confirm=self.access.confirm_password,
        )
        """What may be done with a case."""
        self.review.on_signed.append(self._post.signed)
        self.review.on_moved += [self._post.follow, updates]
        self._reader = RecordReader(self._record)
        self._models = ModelStops(
            self._record,
            name=settings.name,
            followers=[self._follower, self._post.follow, updates],
            on_change=self._on_model_changed,
        )
        context = Context(
            access=self.access,
            reader=self._reader,
            models=self._models,
            feed=self._feed,
            metrics=self._metrics,
            ready=self.ready,
            ingest=lambda: self._ingest.state,
            connection=lambda: self._session.last_error if not self._session.connected else "",
            exposure=lambda: self.exposure,
            receipts_waiting=lambda: self._receipts.waiting,
            post=self._post,
            pictures=self._pictures,
            outbox_waiting=self._outbox.waiting,
            review=self.review,
            host_names=settings.host_names,
        )
        self._web = WebServer(
            create_app(context),
            host=settings.host,
            port=settings.port,
            certificate=(settings.tls.cert_file, settings.tls.key_file) if settings.tls else None,
            trusted_proxies=settings.trusted_proxies,
        )
        self._stopping = False

    @property
    def port(self) -> int:
        """The port of the web pages, once started."""
        return self._web.port

    @property
    def exposure(self) -> str:
        """That passwords can be read on their way, in one sentence; empty on a loopback address."""
        if not self._web.exposed or self._settings.tls is not None:
            return ""
        return (
            f"the pages listen on {self._settings.host} port {self._web.port}, beyond this machine, without TLS: whoever is on "
            "the way can read passwords and cases. Name a certificate in 'tls', let only a proxy with TLS reach that port, or set "
            "host to 127.0.0.1"
        )

    def ready(self) -> tuple[bool, str]:
        """Return whether frames can be recorded now, and one sentence that says why not."""
        if self._stopping:
            return False, "stopping"
        if self._ingest.state.fault:
            return False, self._ingest.state.fault
        if not self._session.connected:
            return False, self._session.last_error or "not connected to the broker"
        checked = self._record.check()
        return (True, "ready") if checked == "ok" else (False, checked)

    def start(self) -> None:
        """Start everything; what takes messages starts last.

        Raises:
            RecordError: If the record cannot be used.
            DashboardError: If the web port cannot be had.
        """
        self._record.start()
        self._pictures.start()
        try:
            self.access.start()
            self._web.start()
        except BaseException:
            self.access.stop()
            self._record.stop()
            raise
        self._ingest.start()
        self._receipts.start()
        self._session.start()
        self._outbox.start()
        self._post.start()
        self._watch.start()
        self._models.start()
        announce_ports(self._settings.directory, ROLE, {"web": self._web.port, "monitor": self._web.port})
        logger.info(
            "the pages are at %s://%s:%d/",
            "https" if self._settings.tls else "http",
            self._settings.host,
            self._web.port,
        )
        if self.exposure:
            logger.warning("%s", self.exposure)
        if not self.access.has_users:
            logger.warning("%s", FIRST_ADMIN)

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set."""
        stop.wait()

    def stop(self) -> None:
        """Drain and end: what has been taken is written and answered before the connection closes."""
        self._stopping = True
        if not self._ingest.stop(timeout_s=8.0):
            logger.warning("not everything could be written; it was not acknowledged, so it comes again")
        self._models.stop()
        self._watch.stop()
        self._post.stop()
        self._receipts.stop(timeout_s=3.0)  # needs the session
        self._outbox.stop()  # likewise
        self._session.stop(timeout_s=3.0)
        self._feed.close()  # ends the pages' live lines, which would hold the web server open
        self._web.stop()
        self.access.stop()
        self._record.stop()

    def _on_reviewed(self, site: str, code: str, alerted: bool) -> None:  # noqa: FBT001 - a callback
        self._outbox.ring()
        self._post.ring()
        self._feed.publish("case", site=site, code=code)
        if alerted:
            self._feed.publish("critical")

    def _on_model_changed(self, cases: Sequence[tuple[str, str]]) -> None:
        for site, code in cases:
            self._feed.publish("case", site=site, code=code)
        self._feed.publish("models")
        self._outbox.ring()
        self._post.ring()
        self._tell_alerted()

    def _on_applied(self, applied: Applied) -> None:
        self._receipts.send(applied.recorded)
        self._receipts.refuse(applied.refused)
        self._post.ring()
        if applied.cases:
            self._outbox.ring()
        if applied.fleet or applied.rejections or applied.tallies:
            self._reader.forget()
        for site, code in sorted(applied.cases):
            self._feed.publish("case", site=site, code=code)
        if applied.fleet:
            self._feed.publish("fleet")
        if applied.rejections or applied.tallies:
            self._feed.publish("rejections")
        self._tell_alerted()

    def _tell_alerted(self) -> None:
        if self._follower.take_alerted():
            self._outbox.ring()
            self._feed.publish("critical")
