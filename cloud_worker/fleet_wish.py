"""Which model the fleet should serve, as an operator has said, beside the one that this worker serves."""

import logging

from broker_config.codec import decode
from broker_config.errors import DecodeError
from broker_config.fleet_messages import FleetModel
from broker_config.messages import ModelIdentity

logger = logging.getLogger(__name__)


class FleetWish:
    """Notes the wish, and says so when this worker does not fulfil it: it takes a restart with other settings.

    Attributes:
        serves: What this worker serves.
        other: Name and version of the wished model if it is another one, otherwise empty.
    """

    def __init__(self) -> None:
        self.serves: ModelIdentity | None = None
        self.other = ""

    def note(self, payload: bytes) -> str:
        """Take in the wish; returns what became of the message: ``taken``, or why it cannot be read."""
        try:
            wanted = decode(payload, FleetModel)
        except DecodeError as error:
            logger.warning("the fleet's model cannot be read: %s", error)
            return error.code
        serves = self.serves
        self.other = ""
        if serves is not None and wanted.weights_sha256 != serves.weights_sha256:
            self.other = f"{wanted.name} {wanted.version}"
            logger.warning(
                "the fleet should serve %s %s and this worker serves %s %s: set model in its settings and restart it",
                wanted.name,
                wanted.version,
                serves.name,
                serves.version,
            )
        return "taken"
