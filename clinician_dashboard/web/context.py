"""What the web application needs of the daemon, in one object."""

from collections.abc import Callable
from dataclasses import dataclass

from clinician_dashboard.access.access import Access
from clinician_dashboard.delivery.post import Post
from clinician_dashboard.feed import Feed
from clinician_dashboard.ingest import IngestState
from clinician_dashboard.metrics import Metrics
from clinician_dashboard.model_stops import ModelStops
from clinician_dashboard.record import RecordReader
from clinician_dashboard.review.service import ReviewDesk
from clinician_dashboard.tiles import Pictures


@dataclass(frozen=True)
class Context:
    """Handed to every route.

    Attributes:
        access: Who may come in.
        reader: Reads the record.
        models: Stops model versions, and lets them start again.
        feed: What changed, for the live pages.
        metrics: The daemon's metrics.
        ready: Whether frames can be recorded now, and one sentence that says why not.
        ingest: The ingest's present state.
        connection: Why there is no connection to the broker; empty while there is one.
        exposure: That other machines can reach the pages, in one sentence with the remedy; empty if they cannot.
        receipts_waiting: Receipts that no broker has acknowledged yet.
        post: The way out to the health record.
        pictures: Thumbnails, and tiles of large frames.
        outbox_waiting: Messages that have not gone out yet.
        review: What may be done with a case.
        host_names: Names that a request's Host header may carry.
    """

    access: Access
    reader: RecordReader
    models: ModelStops
    feed: Feed
    metrics: Metrics
    ready: Callable[[], tuple[bool, str]]
    ingest: Callable[[], IngestState]
    connection: Callable[[], str]
    exposure: Callable[[], str]
    receipts_waiting: Callable[[], int]
    post: Post
    pictures: Pictures
    outbox_waiting: Callable[[], int]
    review: ReviewDesk
    host_names: frozenset[str]
