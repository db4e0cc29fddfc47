"""Notices: what the edge itself tells the record about frames that will not come.

A frame that the edge parks by itself, or has lost with its own disk, is published as a `Rejection` on the device's own topic.
The spool keeps each notice until a broker that has a subscriber for it has acknowledged it, through restarts; a record that
hears one twice keeps it once.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from broker_config.delivery import publication
from broker_config.messages import Rejection, now
from broker_config.session import PublishResult, backoff_s
from broker_config.topics import Topics
from edge_agent.publisher import Publisher
from edge_agent.spool import Spool
from edge_agent.spool.rows import Untold

logger = logging.getLogger(__name__)

_AT_ONCE = 20
_RETRY_FIRST_S = 2.0
_RETRY_MAX_S = 60.0


@dataclass(frozen=True)
class NoticeOutcome:
    """What became of one notice's publish.

    Attributes:
        key: The notice.
        failure: Why it must be sent again; empty when somebody has it.
    """

    key: int
    failure: str = ""


class Notices:
    """Sends the spool's notices until each is acknowledged. One thread uses it.

    Args:
        spool: Where they are kept.
        session: The connection.
        topics: Topic names.
        site: This device's site.
        device: This device.
        clock: Monotonic seconds.
        leave: Hands an outcome to the thread that uses this object, from any thread.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        session: Publisher,
        topics: Topics,
        site: str,
        device: str,
        clock: Callable[[], float],
        leave: Callable[[NoticeOutcome], None],
    ) -> None:
        self._spool = spool
        self._session = session
        self._topic = topics.rejected(site, device)
        self._site, self._device = site, device
        self._clock = clock
        self._leave = leave
        self._under_way: set[int] = set()
        self._failures = 0
        self._not_before = 0.0

    @property
    def next_at(self) -> float | None:
        """When there is something to send, or None."""
        waiting = self._spool.totals.untold - len(self._under_way)
        return self._not_before if waiting > 0 and self._session.connected else None

    def try_now(self) -> None:
        """Forget the pause after a failure: the broker has come back."""
        self._failures = 0
        self._not_before = 0.0

    def send(self) -> None:
        """Publish what is not told yet.

        Raises:
            SpoolUnavailable: If the spool cannot be read.
        """
        if not self._spool.totals.untold or not self._session.connected or self._clock() < self._not_before:
            return
        for notice in self._spool.untold(limit=_AT_ONCE):
            if notice.id not in self._under_way:
                self._under_way.add(notice.id)
                future = self._session.publish_soon(publication(self._topic, self._rejection(notice)))
                future.add_done_callback(partial(self._note, notice.id))

    def heard(self, outcome: NoticeOutcome) -> None:
        """Take in an outcome.

        Raises:
            SpoolUnavailable: If it cannot be noted; the notice is then sent again.
        """
        self._under_way.discard(outcome.key)
        if outcome.failure:
            self._failures += 1
            self._not_before = self._clock() + backoff_s(
                self._failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S
            )
            logger.log(
                logging.WARNING if self._failures == 1 else logging.DEBUG,
                "a notice about a frame that will not come did not arrive, it is sent again: %s",
                outcome.failure,
            )
            return
        self._failures = 0
        self._spool.mark_told(outcome.key)

    def _note(self, key: int, future: "Future[PublishResult]") -> None:
        if future.cancelled():
            failure = "the connection has just ended"
        elif (error := future.exception()) is not None:
            failure = str(error) or type(error).__name__
        elif future.result().no_subscribers:
            failure = "nobody subscribes to this device's rejections: start the dashboard"
        else:
            failure = ""
        self._leave(NoticeOutcome(key, failure))

    def _rejection(self, notice: Untold) -> Rejection:
        try:
            at = datetime.fromisoformat(notice.at)
        except ValueError:
            at = now()
        return Rejection(
            frame_id=notice.frame_id,
            case=notice.case,
            site=self._site,
            device=self._device,
            sequence=notice.sequence,
            code=notice.code,
            reason=notice.reason[:2000],
            attempts=max(notice.attempts, 1),
            payload_bytes=notice.payload_bytes,
            payload_sha256=notice.payload_sha256,
            by=self._device,
            at=at,
        )
