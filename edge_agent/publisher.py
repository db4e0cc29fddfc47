"""The part of a session that the uplink needs."""

from concurrent.futures import Future
from typing import Protocol

from broker_config.delivery import Publication
from broker_config.session import PublishResult


class Publisher(Protocol):
    """Publishes; in life a `broker_config.session.Session`."""

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""

    @property
    def receive_maximum(self) -> int:
        """How many publishes the broker takes at once."""

    @property
    def maximum_packet_bytes(self) -> int | None:
        """Largest packet the broker takes."""

    def publish_soon(self, publication: Publication) -> "Future[PublishResult]":
        """Publish without waiting; failures come in the future."""
