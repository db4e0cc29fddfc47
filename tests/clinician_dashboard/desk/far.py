"""A client of the broker that plays edge and worker, and hears receipts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from broker_config.delivery import Publication, publication
from broker_config.device_messages import DeviceState
from broker_config.fleet_messages import WorkerState
from broker_config.messages import Diagnosis, Frame, Receipt, Rejection
from broker_config.session import Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics


@dataclass
class Far:
    """The other side of the broker: publishes as edge and worker do, and hears receipts."""

    session: Session
    topics: Topics = field(default_factory=Topics)
    receipts: list[Receipt] = field(default_factory=list)

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.session.publish(publication(self._topic(message), message))

    def raw(self, topic: str, payload: bytes) -> None:
        self.session.publish(Publication(topic=topic, payload=payload))

    def recorded(self) -> list[str]:
        return [receipt.frame_id for receipt in self.receipts if receipt.status == "recorded"]

    def _topic(self, message: Any) -> str:
        match message:
            case Frame():
                return self.topics.frame(message.site, message.device, message.priority)
            case Diagnosis():
                return self.topics.diagnosis(message.site, message.device)
            case Rejection():
                return self.topics.rejected(message.site, message.device)
            case DeviceState():
                return self.topics.state(message.site, message.device)
            case WorkerState():
                return self.topics.worker_state(message.worker)
        raise AssertionError(message)


@contextmanager
def connect(port: int, *, protocol: str) -> Iterator[Far]:
    heard: list[Receipt] = []
    session = Session(
        BrokerSettings(port=port, protocol=protocol),
        client_id="test-far-side",
        subscriptions=[Subscription(Topics().all_of("receipt"))],
        on_message=lambda message: heard.append(Receipt.model_validate_json(message.payload)),
    )
    session.start()
    assert session.wait_connected(10)
    try:
        yield Far(session, receipts=heard)
    finally:
        session.stop()
