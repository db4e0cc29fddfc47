"""The dashboard's Prometheus metrics, in a registry of their own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clinician_dashboard.record.changes import Applied

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)


class Metrics:
    """Counters of this process; the record's own tallies survive it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received = Counter(
            "hemolink_dashboard_received",
            "Messages received, by kind of topic",
            ["kind"],
            registry=self.registry,
        )
        self.messages = Counter(
            "hemolink_dashboard_messages",
            "What became of every delivered message, by kind of topic",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.recorded = Counter("hemolink_dashboard_recorded", "Frames recorded", registry=self.registry)
        self.tallies = Counter(
            "hemolink_dashboard_tally",
            "Malformed, repeated, conflicting, dropped",
            ["name", "code"],
            registry=self.registry,
        )
        self.receipts = Counter(
            "hemolink_dashboard_receipts", "Receipts by outcome", ["outcome"], registry=self.registry
        )
        self.latency = Histogram(
            "hemolink_dashboard_capture_to_recorded_seconds",
            "From the capture to the commit of image and diagnosis",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.batch = Histogram(
            "hemolink_dashboard_batch_messages",
            "Messages a commit",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.queue = Gauge(
            "hemolink_dashboard_queue", "Messages waiting for the writer", registry=self.registry
        )
        self.overflow = Counter(
            "hemolink_dashboard_overflow",
            "Messages not taken because the queue was full",
            registry=self.registry,
        )
        self.faults = Counter(
            "hemolink_dashboard_write_faults", "Failed tries to write the record", registry=self.registry
        )
        self.missing = Gauge(
            "hemolink_dashboard_missing_frames",
            "Frames that devices numbered and that never came",
            registry=self.registry,
        )
        self.behind = Gauge(
            "hemolink_dashboard_behind_seconds",
            "Age of the frames that enter the record now; 0 without a backlog",
            registry=self.registry,
        )
        self.critical = Gauge(
            "hemolink_dashboard_critical_alerts",
            "Critical alerts that are not closed, by state",
            ["state"],
            registry=self.registry,
        )
        self.escalated = Counter(
            "hemolink_dashboard_critical_escalated",
            "Critical alerts that nobody acknowledged in time",
            registry=self.registry,
        )
        self.outbox = Gauge(
            "hemolink_dashboard_outbox", "Messages that have not gone out yet", registry=self.registry
        )
        self.listeners = Gauge(
            "hemolink_dashboard_listeners", "Pages on the live feed", registry=self.registry
        )

    def count(self, applied: Applied) -> None:
        """Count a committed batch."""
        for (kind, outcome), count in applied.outcomes.items():
            self.messages.labels(kind, outcome).inc(count)
        self.recorded.inc(applied.newly_recorded)
        for latency in applied.latencies_ms:
            self.latency.observe(latency / 1000)
        for (name, code), count in applied.tallies.items():
            self.tallies.labels(name, code).inc(count)
