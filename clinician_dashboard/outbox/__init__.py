"""What is to go out over MQTT, written in the transaction of the act that it tells of, and sent until acknowledged."""

from clinician_dashboard.outbox.entry import enqueue

__all__ = ["enqueue"]
