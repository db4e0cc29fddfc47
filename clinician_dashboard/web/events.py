"""The live line of the pages: server-sent events (WHATWG HTML, section 9.2)."""

import asyncio
import json
from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from clinician_dashboard.access.access import Access
from clinician_dashboard.access.sessions import Identity
from clinician_dashboard.feed import Feed, FeedEvent
from clinician_dashboard.metrics import Metrics

HEARTBEAT_S = 10.0
RETRY_MS = 2000


class Listener:
    """Who holds a line open: it ends with the session, and says nothing that its role may not know.

    Args:
        access: Knows whether the session goes on.
        identity: Who opened the line.
    """

    def __init__(self, access: Access, identity: Identity) -> None:
        self._access = access
        self._identity = identity
        self._endings = access.sessions.endings

    async def is_gone(self, *, beat: bool) -> bool:
        """Return whether the session has ended; it is looked up at each heartbeat, and when any was ended.

        Args:
            beat: Whether a heartbeat is due.
        """
        endings = self._access.sessions.endings
        if not beat and endings == self._endings:
            return False
        try:
            gone = not await run_in_threadpool(self._access.goes_on, self._identity)
        except SQLAlchemyError:
            return False  # not known now; asked again at the next beat
        self._endings = endings
        return gone

    def may_hear(self, event: FeedEvent) -> bool:
        """Return whether an event is for this role."""
        return event.name != "case" or self._identity.actor.may("cases.read")


async def stream(
    feed: Feed, *, last_event_id: str, metrics: Metrics, listener: Listener
) -> AsyncIterator[str]:
    """Yield the feed from ``last_event_id`` on, with a heartbeat while nothing happens.

    It ends with the listener's session, and says ``ended`` before it does. A page that comes back after too long, or after a restart, is told to ``refresh`` all of itself.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(changed.set)

    number = feed.number_of(last_event_id) if last_event_id else feed.last_number()
    feed.listen(wake)
    metrics.listeners.inc()
    try:
        yield f"retry: {RETRY_MS}\n\n"
        if number is None:
            number = feed.last_number()
            yield _format(feed, FeedEvent(number, "refresh"))
        yield _format(feed, FeedEvent(number, "hello"))
        beat = False
        while not feed.closed:
            changed.clear()
            if await listener.is_gone(beat=beat):
                yield _format(feed, FeedEvent(number, "ended"))
                return
            if beat:
                yield _format(feed, FeedEvent(number, "heartbeat"))
            for event in feed.since(number):
                if listener.may_hear(event):
                    yield _format(feed, event)
                number = event.number
            beat = False
            try:
                await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
            except TimeoutError:
                beat = True
    finally:
        feed.forget(wake)
        metrics.listeners.dec()


def _format(feed: Feed, event: FeedEvent) -> str:
    # json.dumps leaves no line break in the data, so a field cannot end the event early.
    return f"id: {feed.event_id(event.number)}\nevent: {event.name}\ndata: {json.dumps(event.data)}\n\n"
