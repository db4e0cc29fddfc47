"""Putting a message into the outbox."""

from sqlalchemy import delete
from sqlalchemy.orm import Session

from broker_config.delivery import DELIVERY
from broker_config.messages import Message, now
from clinician_dashboard.outbox.tables import OutboxRow

KINDS = {row.message: row.kind for row in DELIVERY.values()}


def enqueue(session: Session, message: Message, *, site: str, device: str, key: str = "") -> None:
    """Put ``message`` into the outbox; it goes out after the transaction has been committed, at least once.

    Args:
        session: Within `Record.transaction`.
        message: Any message of the delivery table whose topic is a device's, or `FleetStops`.
        site: The topic's site; empty for the fleet's.
        device: The topic's device; empty for the fleet's.
        key: Of messages of which only the latest matters: one that has not gone out yet is replaced.

    Raises:
        KeyError: If the message has no row in the delivery table.
    """
    kind = KINDS[type(message)]
    if key:
        session.execute(delete(OutboxRow).where(OutboxRow.key == key))
    session.add(
        OutboxRow(
            kind=kind,
            site=site,
            device=device,
            key=key,
            payload=message.model_dump_json(),
            created_at=now(),
        )
    )
