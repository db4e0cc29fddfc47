"""Whether the broker answers, and what it allows."""

import secrets
import time

from broker_config.session import Session
from broker_config.settings import BrokerSettings
from hemolink.finding import Finding, fault, fine, warning

AREA = "broker"
TIMEOUT_S = 5.0
FRAME_BYTES = 2_000_000
"""A frame of a large camera; a broker that takes less will refuse some."""


def check_broker(broker: BrokerSettings, *, asked_for: bool) -> list[Finding]:
    """Connect as a client of its own and say what was agreed.

    Args:
        broker: Where it is.
        asked_for: Whether a settings file named it; without one the default place is only looked at.
    """
    where = f"{broker.host}:{broker.port}"
    broker = broker.model_copy(update={"connect_timeout_s": min(broker.connect_timeout_s, TIMEOUT_S)})
    session = Session(broker, client_id=f"{broker.root}-doctor-{secrets.token_hex(4)}", on_message=None)
    untold = session.last_error
    session.start()
    try:
        if not _connects(session, untold=untold):
            if not asked_for:
                return [
                    fine(
                        AREA,
                        f"none at {where} ('hemolink demo' brings its own; --settings FILE checks another)",
                    )
                ]
            cause, _, remedy = session.last_error.partition(": ")
            remedy = remedy or "start the broker, or mend host, port, protocol, user or TLS in the settings"
            return [fault(AREA, cause, remedy)]
        limit = session.maximum_packet_bytes
        said = (
            f"{where} speaks MQTT {broker.protocol}; receive maximum {session.receive_maximum}, "
            f"largest packet {limit if limit is not None else 'not announced'}"
        )
        if limit is not None and limit < FRAME_BYTES:
            remedy = f"raise its maximum packet size to {FRAME_BYTES} or more, or send smaller frames"
            return [warning(AREA, said, remedy)]
        return [fine(AREA, said)]
    finally:
        session.stop()


def _connects(session: Session, *, untold: str) -> bool:
    """Wait for the first outcome: a connection, or a reason why there is none."""
    deadline = time.monotonic() + 2 * TIMEOUT_S + 1  # once for the connection, once for the answer to CONNECT
    while time.monotonic() < deadline:
        if session.wait_connected(0.1):
            return True
        if session.last_error != untold:
            return False
    return False
