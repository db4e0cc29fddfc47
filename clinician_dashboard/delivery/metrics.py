"""What became of the deliveries, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy import func, select

from clinician_dashboard.delivery.tables import DeliveryRow
from clinician_dashboard.record.database import Record

STATES = ("waiting", "parked")


class DeliveryMetrics:
    """Counters and gauges of the deliveries.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.outcomes = Counter(
            "hemolink_dashboard_delivery_tries",
            "Tries to deliver a report to the health record, by outcome",
            ["target", "outcome"],
            registry=registry,
        )
        self._orders = Gauge(
            "hemolink_dashboard_deliveries",
            "Reports that have not arrived at the health record",
            ["target", "state"],
            registry=registry,
        )
        self._oldest = Gauge(
            "hemolink_dashboard_delivery_oldest_timestamp_seconds",
            "When the oldest report that has not arrived was ordered; 0 if all have",
            ["target"],
            registry=registry,
        )

    def show(self, record: Record, target: str) -> None:
        """Read the gauges from the record."""
        with record.session() as session:
            counted = session.execute(
                select(DeliveryRow.state, func.count(), func.min(DeliveryRow.created_at))
                .where(DeliveryRow.target == target, DeliveryRow.state.in_(STATES))
                .group_by(DeliveryRow.state)
            ).all()
        by_state = {state: (count, first) for state, count, first in counted}
        for state in STATES:
            self._orders.labels(target, state).set(by_state.get(state, (0, None))[0])
        oldest = by_state.get("waiting", (0, None))[1]
        self._oldest.labels(target).set(oldest.timestamp() if oldest else 0)
