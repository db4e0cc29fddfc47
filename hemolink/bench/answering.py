"""A far end that answers every frame at once: ``python -m hemolink.bench.answering PORT SITE DEVICE``.

It stands for workers and record, and does nothing but write receipts, so that it is not what is measured. It knows a
frame by the correlation data of its packet and does not decode it.
"""

import sys
import threading

from broker_config.delivery import publication
from broker_config.messages import Receipt, ReceiptStatus, now
from broker_config.process import Shutdown
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics

ANSWERS: tuple[ReceiptStatus, ...] = ("diagnosed", "recorded")


def main() -> None:
    """Answer until SIGTERM."""
    port, site, device = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    answer_until(BrokerSettings(port=port, reconnect_max_s=0.2), site=site, device=device)


def answer_until(broker: BrokerSettings, *, site: str, device: str) -> None:
    """Subscribe to every frame and publish the receipts of each, until SIGTERM."""
    topics = Topics(broker.root)
    topic = topics.receipt(site, device)

    def take(message: IncomingMessage) -> None:
        frame_id = (message.correlation_data or b"").decode()
        for status in ANSWERS:
            receipt = Receipt(frame_id=frame_id, status=status, by="answering", at=now())
            session.publish_soon(publication(topic, receipt))

    session = Session(
        broker,
        client_id="bench-answering",
        subscriptions=(Subscription(topics.all_frames()),),
        on_message=take,
        max_inflight=500,
    )
    shutdown = Shutdown()
    if threading.current_thread() is threading.main_thread():
        shutdown.install()
    session.start()
    shutdown.requested.wait()
    session.stop(1.0)


if __name__ == "__main__":
    main()
