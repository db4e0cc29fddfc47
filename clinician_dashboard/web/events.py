"""The live line of the pages: server-sent events (WHATWG HTML, section 9.2)."""

import asyncio
import json
from collections.abc import AsyncIterator

from clinician_dashboard.feed import Feed, FeedEvent
from clinician_dashboard.metrics import Metrics

HEARTBEAT_S = 10.0
RETRY_MS = 2000


async def stream(feed: Feed, *, last_event_id: str, metrics: Metrics) -> AsyncIterator[str]:
    """Yield the feed from ``last_event_id`` on, with a heartbeat while nothing happens.

    A page that comes back after too long, or after a restart, is told to ``refresh`` all of itself.
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
        while not feed.closed:
            changed.clear()
            for event in feed.since(number):
                yield _format(feed, event)
                number = event.number
            try:
                await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
            except TimeoutError:
                yield _format(feed, FeedEvent(number, "heartbeat"))
    finally:
        feed.forget(wake)
        metrics.listeners.dec()


def _format(feed: Feed, event: FeedEvent) -> str:
    # json.dumps leaves no line break in the data, so a field cannot end the event early.
    return f"id: {feed.event_id(event.number)}\nevent: {event.name}\ndata: {json.dumps(event.data)}\n\n"
