"""Trying dead letters again: an order to the edges, which still hold the frames.

Nobody but a device may publish on its frame topics, so a worker's copy is never sent by the worker. A rejected frame is
parked in its edge's spool; the order ``retry`` puts it back into the row there, and it comes again in the ordinary way.
"""

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker_config.codec import decode
from broker_config.delivery import publication
from broker_config.device_messages import Command, CommandResponse
from broker_config.errors import DecodeError, TopicError
from broker_config.messages import new_frame_id, now
from broker_config.session import IncomingMessage, Session, Subscription
from broker_config.settings import BrokerSettings
from broker_config.topics import Topics
from cloud_worker.dead_letters import Note
from cloud_worker.suspects import pardon

_CHUNK = 50  # whose answer names every frame that is not there


@dataclass(frozen=True)
class Tried:
    """What became of one dead letter.

    Attributes:
        note: The dead letter.
        ok: Whether its edge sends the frame again.
        told: One sentence.
    """

    note: Note
    ok: bool
    told: str


class Replay:
    """Asks edges to send rejected frames again, under a name that may give orders.

    Args:
        broker: How to reach the broker, with the user name of an operator or a dashboard.
        suspects: Where it is remembered which frames may have killed this worker; these are pardoned.
        timeout_s: How long to wait for each device's answer.
    """

    def __init__(self, broker: BrokerSettings, *, suspects: Path, timeout_s: float) -> None:
        self._broker = broker
        self._topics = Topics(broker.root)
        self._suspects = suspects
        self._timeout_s = timeout_s
        self._answers: queue.SimpleQueue[CommandResponse] = queue.SimpleQueue()

    def run(self, notes: Sequence[Note]) -> Iterator[Tried]:
        """Try dead letters again, device by device.

        Raises:
            SessionError: If the broker cannot be reached, or refuses.
        """
        by_device: dict[tuple[str, str], list[Note]] = {}
        for note in notes:
            device = self._device(note)
            if device is None or note.frame_id is None:
                yield Tried(
                    note, ok=False, told="no frame of a known device: there is nobody to send it again"
                )
            else:
                by_device.setdefault(device, []).append(note)
        if not by_device:
            return
        session = Session(
            self._broker,
            client_id=f"{self._broker.root}-replay-{new_frame_id()[:8]}",
            subscriptions=[Subscription(self._topics.response(*device, "retry")) for device in by_device],
            on_message=self._hear,
        )
        session.connect()
        try:
            for device, letters in by_device.items():
                for first in range(0, len(letters), _CHUNK):
                    yield from self._ask(session, device, letters[first : first + _CHUNK])
        finally:
            session.stop()

    def _ask(self, session: Session, device: tuple[str, str], notes: Sequence[Note]) -> Iterator[Tried]:
        for note in notes:
            pardon(self._suspects, note.sha256)
        order = Command(
            request_id=new_frame_id(),
            verb="retry",
            frame_ids=tuple(note.frame_id for note in notes if note.frame_id is not None),
            at=now(),
        )
        result = session.publish(publication(self._topics.command(*device, "retry"), order))
        where = "/".join(device)
        answer = None if result.no_subscribers else self._answer_to(order)
        for note in notes:
            if answer is None:
                told = f"{where} does not answer: see that its agent runs and is connected, and try again"
                yield Tried(note, ok=False, told=told)
            elif not answer.ok:
                yield Tried(note, ok=False, told=f"{where} refuses: {answer.message}")
            elif str(note.frame_id) in answer.message:
                yield Tried(
                    note, ok=False, told=f"{where} does not hold this frame any more, or has not parked it"
                )
            else:
                yield Tried(note, ok=True, told=f"{where} sends it again")

    def _answer_to(self, order: Command) -> CommandResponse | None:
        try:
            while (answer := self._answers.get(timeout=self._timeout_s)).request_id != order.request_id:
                pass
        except queue.Empty:
            return None
        return answer

    def _hear(self, message: IncomingMessage) -> None:
        try:
            self._answers.put(decode(message.payload, CommandResponse))
        except DecodeError:
            return

    def _device(self, note: Note) -> tuple[str, str] | None:
        try:
            name = self._topics.parse(note.topic)
        except TopicError:
            return None
        return (name.site, name.device) if name.kind == "frame" else None
