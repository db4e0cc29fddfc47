"""A plug-in of the embedded broker that refuses what amqtt would grant and not do.

amqtt loads it by its dotted name, so it stands in a module that may import amqtt at its top.
"""

import logging

from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseTopicPlugin
from amqtt.session import Session

logger = logging.getLogger(__name__)


class SharedSubscriptionGuard(BaseTopicPlugin):  # type: ignore[misc]
    """Refuses shared subscriptions: amqtt grants them and then delivers nothing."""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Return whether the client may; false for a shared subscription, which the client sees in its SUBACK."""
        if action == Action.SUBSCRIBE and (topic or "").startswith("$share"):
            logger.warning(
                "%s asks for the shared subscription %s, which the embedded broker does not have: use Mosquitto, or "
                "one worker without a pool",
                session.client_id if session else "a client",
                topic,
            )
            return False
        return True
