"""Sends one order to a running agent over the broker and waits for its answer."""

import queue
import uuid
from typing import Any

from broker_config.codec import decode
from broker_config.delivery import publication
from broker_config.device_messages import Command, CommandResponse
from broker_config.errors import DecodeError, PublishRefused, SessionError
from broker_config.messages import now
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.topics import Topics, Verb
from edge_agent.errors import OrderFailed
from edge_agent.settings import Settings


def send_order(settings: Settings, verb: Verb, *, timeout_s: float = 10.0, **fields: Any) -> CommandResponse:
    """Send an order to the agent of ``settings`` and return its answer.

    Args:
        settings: The agent's settings; its broker, site and device are used.
        verb: What to do.
        timeout_s: For the connection and again for the answer.
        **fields: ``case``, ``priority``, ``frames`` or ``settings`` of the `Command`.

    Raises:
        OrderFailed: If the broker is away or forbids it, or no answer comes.
    """
    topics = Topics(settings.broker.root)
    command = Command(request_id=uuid.uuid4().hex, verb=verb, at=now(), **fields)
    answers: queue.SimpleQueue[CommandResponse] = queue.SimpleQueue()

    def take(message: IncomingMessage) -> None:
        try:
            answer = decode(message.payload, CommandResponse)
        except DecodeError:
            return
        if answer.request_id == command.request_id:
            answers.put(answer)

    response_topic = topics.response(settings.site, settings.device, verb)
    session = Session(
        settings.broker,
        client_id=f"hemolink-order-{command.request_id[:12]}",
        subscriptions=(Subscription(response_topic),),
        on_message=take,
    )
    try:
        session.connect(timeout_s)
        topic = topics.command(settings.site, settings.device, verb)
        result = session.publish(
            publication(topic, command, response_topic=response_topic), timeout_s=timeout_s
        )
        if result.no_subscribers:
            raise OrderFailed(
                f"no agent listens as {settings.site}/{settings.device}: start it ('hemolink edge run'), or check the names"
            )
        return answers.get(timeout=timeout_s)
    except queue.Empty:
        raise OrderFailed(
            f"{settings.site}/{settings.device} did not answer within {timeout_s:g} s: see that its agent runs and is "
            "connected"
        ) from None
    except PublishRefused as error:
        raise OrderFailed(
            f"{error}: an order needs an operator's credentials; on the microscope's host itself use --local"
        ) from None
    except SessionError as error:
        raise OrderFailed(
            f"{error}; on the microscope's host itself --local works without the broker"
        ) from None
    finally:
        session.stop(1.0)
